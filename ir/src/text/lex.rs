//! Tokens of one line of text, read one at a time: a long line costs no memory.

use std::ops::Range;

use super::error::{Fault, Problem, shown};

/// One token; names and strings are still as written, see [`unquote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// `%name`.
    Value(&'t str),
    /// `@name`.
    At(&'t str),
    /// `!name`.
    Param(&'t str),
    /// `"string"`, quotes included.
    Quoted(&'t str),
    /// A keyword, key or bare name.
    Word(&'t str),
    /// A decimal number or `-inf`.
    Number(&'t str),
    /// `#digest`.
    Digest(&'t str),
    /// One of `: = [ ] ( ) , ; | * ^ -`.
    Punct(char),
    /// The end of the line, or a comment.
    End,
}

/// A place in a line.
#[derive(Clone)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    end: usize,
}

/// Whether a name can be written after its sigil without quotes.
pub(super) fn is_bare_name(name: &str) -> bool {
    !name.is_empty() && name_length(name) == name.len()
}

/// Whether a string can be written without quotes or sigil.
pub(super) fn is_bare_word(word: &str) -> bool {
    word.starts_with(is_word_start) && word.chars().all(is_word_char)
}

/// A string in quotes, on one line.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The string that a quoted or bare token stands for; the lexer has checked its escapes.
pub(super) fn unquote(token: &str) -> String {
    let Some(inner) = token.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return token.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        let length = if c == '\\' { escape(rest) } else { Some((c, c.len_utf8())) };
        let (c, length) = length.unwrap_or((c, c.len_utf8()));
        out.push(c);
        rest = &rest[length..];
    }
    out
}

/// The character and length of the escape at the start of `rest`.
fn escape(rest: &str) -> Option<(char, usize)> {
    let body = rest.strip_prefix('\\')?;
    match body.chars().next()? {
        c @ ('"' | '\\') => Some((c, 2)),
        'n' => Some(('\n', 2)),
        'u' => {
            let digits = body.strip_prefix("u{")?.split('}').next()?;
            let hex = (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let code = hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
            body[2 + digits.len()..].starts_with('}').then_some(())?;
            Some((char::from_u32(code)?, digits.len() + 4))
        }
        _ => None,
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn is_name_char(c: char) -> bool {
    is_word_char(c) || matches!(c, '/' | '$')
}

/// Length of the bare name at the start of `rest`. Colons belong to it when a name character follows (`onnx::Gemm_1`).
fn name_length(rest: &str) -> usize {
    let mut length = 0;
    loop {
        length += rest[length..].find(|c| !is_name_char(c)).unwrap_or(rest.len() - length);
        let colons = rest[length..].bytes().take_while(|&b| b == b':').count();
        if colons == 0 || length == 0 || !rest[length + colons..].starts_with(is_name_char) {
            return length;
        }
        length += colons;
    }
}

/// Length of the number at the start of `rest`, 0 if there is none.
fn number_length(rest: &str) -> usize {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(rest.starts_with('-'));
    if sign == 1 && rest[1..].starts_with("inf") {
        return 4;
    }
    let whole = digits(sign);
    let mut length = sign + whole;
    if whole == 0 {
        return 0;
    }
    if rest[length..].starts_with('.') {
        length += 1 + digits(length + 1);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['-', '+']));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

impl<'t> Cursor<'t> {
    /// Cursors at the start of every line of a text.
    pub(super) fn lines(text: &'t str) -> impl Iterator<Item = Self> {
        let mut at = 0;
        text.split_inclusive('\n').map(move |line| {
            let start = at;
            at += line.len();
            Self { text, at: start, end: start + line.trim_end_matches(['\n', '\r']).len() }
        })
    }

    /// The token at hand and the bytes it covers; the cursor stays.
    pub(super) fn peek(&self) -> Result<(Token<'t>, Range<usize>), Fault> {
        self.clone().next()
    }

    /// The token at hand and the bytes it covers; the cursor moves behind it.
    pub(super) fn next(&mut self) -> Result<(Token<'t>, Range<usize>), Fault> {
        let line = &self.text[self.at..self.end];
        let start = self.at + line.len() - line.trim_start_matches([' ', '\t', '\r']).len();
        let rest = &self.text[start..self.end];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start..start));
        };
        let body = &rest[first.len_utf8()..];
        let (token, length) = match first {
            '#' if body.is_empty() || body.starts_with([' ', '\t']) => return Ok((Token::End, start..start)),
            '%' | '@' | '!' => {
                let name = match body.strip_prefix('"') {
                    Some(inner) => &body[..self.string(inner, start + 2)? + 2],
                    None => &body[..name_length(body)],
                };
                let token = match first {
                    '%' => Token::Value(name),
                    '@' => Token::At(name),
                    _ => Token::Param(name),
                };
                if name.is_empty() {
                    return Err(self.unexpected(start, 1, "a name behind the sigil"));
                }
                (token, 1 + name.len())
            }
            '"' => {
                let length = self.string(body, start + 1)? + 2;
                (Token::Quoted(&rest[..length]), length)
            }
            '#' => {
                let digits = body.bytes().take_while(u8::is_ascii_hexdigit).count();
                if digits == 0 {
                    return Err(self.unexpected(start, 1, "a digest, or `# ` in front of a comment"));
                }
                (Token::Digest(&body[..digits]), 1 + digits)
            }
            c if c == '-' || c.is_ascii_digit() => match number_length(rest) {
                0 => (Token::Punct('-'), 1),
                length => (Token::Number(&rest[..length]), length),
            },
            ':' | '=' | '[' | ']' | '(' | ')' | ',' | ';' | '|' | '*' | '^' => (Token::Punct(first), 1),
            c if is_word_start(c) => {
                let length = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
                (Token::Word(&rest[..length]), length)
            }
            c => return Err(self.unexpected(start, c.len_utf8(), "a name, a number or punctuation")),
        };
        self.at = start + length;
        Ok((token, start..start + length))
    }

    /// Length of a string whose opening quote is just in front of `inner`, without quotes.
    fn string(&self, inner: &str, start: usize) -> Result<usize, Fault> {
        let mut length = 0;
        while let Some(c) = inner[length..].chars().next() {
            match c {
                '"' => return Ok(length),
                '\\' => match escape(&inner[length..]) {
                    Some((_, escaped)) => length += escaped,
                    None => return Err(self.unexpected(start + length, 1, r#"the escapes \" \\ \n \u{hex}"#)),
                },
                c => length += c.len_utf8(),
            }
        }
        Err(self.unexpected(start - 1, 1, "a string that is closed on its line"))
    }

    fn unexpected(&self, start: usize, length: usize, allowed: &str) -> Fault {
        let span = start..start + length;
        Fault { problem: Problem::Expected { got: shown(&self.text[span.clone()]), allowed: allowed.into() }, span }
    }

    /// The written form of what a span covers, for messages.
    pub(super) fn got(&self, span: &Range<usize>) -> String {
        if span.is_empty() { "the end of the line".into() } else { shown(&self.text[span.clone()]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(line: &str) -> Vec<Token<'_>> {
        let mut cursor = Cursor::lines(line).next().expect("a line");
        std::iter::from_fn(|| cursor.next().ok().map(|(t, _)| t).filter(|t| *t != Token::End)).collect()
    }

    #[test]
    fn names_numbers_and_words() {
        use Token::{At, Digest, Number, Param, Punct, Value, Word};
        assert_eq!(tokens("%onnx::Gemm_1: f32 # note"), [Value("onnx::Gemm_1"), Punct(':'), Word("f32")]);
        assert_eq!(tokens("@/fc1/w.2, !p0.big"), [At("/fc1/w.2"), Punct(','), Param("p0.big")]);
        assert_eq!(tokens("2^-1.5e-3x4"), [Number("2"), Punct('^'), Number("-1.5e-3"), Word("x4")]);
        assert_eq!(tokens("#0aF*3 - -inf"), [Digest("0aF"), Punct('*'), Number("3"), Punct('-'), Number("-inf")]);
    }

    #[test]
    fn quotes_and_their_escapes_come_back() {
        for text in ["", "a b", "\"\\", "line\nbreak\u{1}", "größe", "a%b"] {
            let quoted = quote(text);
            assert_eq!(tokens(&quoted), [Token::Quoted(&quoted)]);
            assert_eq!(unquote(&quoted), text);
        }
    }

    #[test]
    fn broken_strings_are_refused() {
        for text in ["\"open", r#""\x""#, r#""\u{110000}""#, r#""\u{}""#, r#""\u{41""#, "%\"open", "é", "#", "%"] {
            let mut cursor = Cursor::lines(text).next().expect("a line");
            assert!(cursor.next().is_err() || text == "#", "{text}");
        }
    }
}
