//! The chapter on the intermediate representation: its listings are graphs in their printed form, its tables complete.

use fhe_ir::text::{self, Sidecar, parse, print};
use fhe_ir::verify::verify;

const CHAPTER: &str = include_str!("../../docs/src/ir.md");

#[test]
fn listings_are_in_printed_form() {
    let listings: Vec<_> =
        CHAPTER.split("```eir\n").skip(1).map(|rest| rest.split("```").next().expect("a block")).collect();
    assert_eq!(listings.len(), 3);
    for listing in listings {
        let graph = parse(listing, &Sidecar::new()).unwrap_or_else(|e| panic!("{e}\n{listing}"));
        verify(&graph).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(print(&graph).text, listing);
    }
}

/// Keywords that the parser offers in an error.
fn offered(line: &str) -> Vec<String> {
    let text = format!("eir 2 float\ngraph g\n%x: f32[1,1] = input\n{line}\n");
    let error = parse(&text, &Sidecar::new()).expect_err("not a keyword").to_string();
    let (_, keywords) = error.rsplit_once(": ").expect("keywords");
    keywords.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_keyword_is_explained() {
    let ops = offered("%y: f32[1,1] = no");
    let functions = offered("%y: f32[1,1] = map %x | no");
    let posts = offered("output %x \"y\", post=no");
    assert_eq!((ops.len(), functions.len(), posts.len()), (23, 45, 9));
    for op in ops {
        assert!(CHAPTER.contains(&format!("\n| `{op}")), "{op}");
    }
    for word in functions.iter().chain(&posts) {
        assert!(CHAPTER.contains(&format!("`{word}")), "{word}");
    }
}

#[test]
fn limits_are_those_of_the_parser() {
    let limits = [
        ("bytes of a text", text::MAX_TEXT_BYTES),
        ("outputs, each", text::MAX_ITEMS),
        ("elements of a tensor", text::MAX_ELEMENTS),
        ("numbers in a text and its sidecar", text::MAX_NUMBERS),
        ("repeat counts expanded", text::MAX_INLINE_NUMBERS),
    ];
    for (what, limit) in limits {
        assert!(CHAPTER.contains(&format!("{what} | 2^{} |", limit.ilog2())), "{what}");
        assert!(limit.is_power_of_two());
    }
    assert!(CHAPTER.contains(&format!("axes of a tensor | {} |", text::MAX_RANK)));
    assert!(CHAPTER.contains(&format!("more than {} numbers", text::INLINE)));
}
