//! Commands that the book shows: their options and sub-commands exist.

use crate::{Text, expect_none, text_of, texts_below};

/// Programs and the folder of their sources.
const PROGRAMS: [(&str, &str); 3] =
    [("fhe-compile", "compiler/src"), ("fhe-opt", "compiler/src"), ("fhe-run", "backend/src")];

/// Commands of our programs in fenced blocks and between back-quotes, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut found = vec![];
    let joined = text.replace("\\\n", " ");
    for (index, block) in joined.split("```").enumerate() {
        if index % 2 == 1 {
            found.extend(block.lines().map(|l| l.trim_start_matches("$ ").to_string()));
        } else {
            found.extend(block.split('`').skip(1).step_by(2).map(str::to_string));
        }
    }
    found.retain(|c| PROGRAMS.iter().any(|(program, _)| c.split_whitespace().next() == Some(program)));
    found
}

/// Options and the sub-command that a command names.
fn words(command: &str) -> Vec<String> {
    let plain = command.split(" #").next().unwrap_or_default();
    let mut words = plain.split_whitespace().skip(1);
    let first = words.clone().next().filter(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase()));
    let options = words.by_ref().filter_map(|w| w.strip_prefix("--")).filter(|o| !o.is_empty());
    let options = options.map(|o| o.split(['=', ']', '|']).next().unwrap_or_default());
    first.map(|f| format!(" {f}")).into_iter().chain(options.map(|o| format!("--{o}"))).collect()
}

/// Whether the sources declare the word: a field or a `long = "…"` of clap, or a variant of sub-commands.
fn declared(word: &str, sources: &[Text]) -> bool {
    if let Some(option) = word.strip_prefix("--") {
        let field = format!("{}:", option.replace('-', "_"));
        let long = format!("long = \"{option}\"");
        return sources.iter().any(|s| {
            s.text.contains(&long)
                || s.text.lines().any(|l| l.trim_start().trim_start_matches("pub ").starts_with(&field))
        });
    }
    let mut name = word.trim().to_string();
    name[..1].make_ascii_uppercase();
    let starts = |l: &str| l.trim().strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '{', '(', ',']));
    sources.iter().any(|s| s.text.lines().any(starts))
}

#[test]
fn commands_of_the_book_exist() {
    let mut pages = texts_below("docs", &[".md"]);
    pages.push(text_of("README.md".into()));
    let mut found = vec![];
    for (program, folder) in PROGRAMS {
        let sources = texts_below(folder, &[".rs"]);
        for page in &pages {
            for command in commands(&page.text).iter().filter(|c| c.starts_with(program)) {
                let missing = words(command).into_iter().filter(|w| !declared(w, &sources));
                found.extend(missing.map(|w| format!("{}: {program}{w} in `{command}`", page.path)));
            }
        }
    }
    expect_none("commands that do not exist", &found);
}

#[test]
fn commands_are_found_in_blocks_and_in_text() {
    let text =
        "Use `fhe-run eval x --input y`.\n```\n$ fhe-compile a.onnx --n-bits 4 \\\n  -o b  # --not\nls --no\n```\n";
    let found = commands(text);
    assert_eq!(found.len(), 2);
    assert_eq!(words(&found[0]), [" eval", "--input"]);
    assert_eq!(words(&found[1]), ["--n-bits"]);
}

#[test]
fn declarations_are_fields_names_and_variants() {
    let text = "    n_bits: String,\n#[arg(long = \"dim\")]\n    Eval {\n    pub rows: u8,\n".to_string();
    let sources = [Text { path: "x.rs".into(), text }];
    for word in ["--n-bits", "--dim", "--rows", " eval"] {
        assert!(declared(word, &sources), "{word}");
    }
    for word in ["--bits", "--n", " evaluate"] {
        assert!(!declared(word, &sources), "{word}");
    }
}
