//! The prompts that a checkpoint wants its quantized graphs to be measured with.

/// A text beside a checkpoint's configs, with a prompt on each line. In a draft it lies beside the
/// manifest.
pub const CALIBRATION: &str = "calibration.txt";

/// The prompts in such a text. Empty lines are left out, and those that begin with `#`.
pub fn calibration_prompts(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.split(['\n', '\r']).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn lines_are_prompts_but_for_notes() {
    let text = "# of places\na tree\r\n\n  a car \ra #1 house";
    let found: Vec<_> = calibration_prompts(text).collect();
    assert_eq!(found, ["a tree", "a car", "a #1 house"]);
}
