//! Two texts, line by line: what is gone, what is new. Pure.

/// Lines of either text that are told around a change.
const AROUND: usize = 2;
/// Longest texts that are compared line by line; the table grows with the product of both.
const MAX_LINES: usize = 2_000;

/// Lines with `-`, `+` or a space before them, and `…` where equal ones are left out.
pub fn changes(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    let all = if before.len().max(after.len()) > MAX_LINES {
        let gone = before.iter().map(|line| ('-', *line));
        gone.chain(after.iter().map(|line| ('+', *line))).collect()
    } else {
        aligned(&before, &after)
    };
    near_changes(&all)
}

/// By their longest common subsequence.
fn aligned<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<(char, &'a str)> {
    // `common[i][j]`: how many lines the rests from i and j on have in common.
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            common[i][j] = if before[i] == after[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::new();
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            all.push((' ', before[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < before.len() && (j == after.len() || common[i + 1][j] >= common[i][j + 1]) {
            all.push(('-', before[i]));
            i += 1;
        } else {
            all.push(('+', after[j]));
            j += 1;
        }
    }
    all
}

fn near_changes(all: &[(char, &str)]) -> Vec<String> {
    let is_near = |index: usize| {
        let from = index.saturating_sub(AROUND);
        let to = (index + AROUND + 1).min(all.len());
        all[from..to].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut told: Vec<String> = Vec::new();
    for (index, (sign, line)) in all.iter().enumerate() {
        if is_near(index) {
            told.push(format!("{sign} {line}"));
        } else if told.last().is_some_and(|last| last != "…") {
            told.push("…".to_owned());
        }
    }
    if told.last().is_some_and(|last| last == "…") {
        told.pop();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_and_its_neighbours() {
        for (before, after, expected) in [
            ("a\nb", "a\nb", vec![]),
            ("a\nb\nc", "a\nx\nc", vec!["  a", "- b", "+ x", "  c"]),
            ("", "a", vec!["+ a"]),
            (
                "0\n1\n2\n3\n4\n5\n6\n7\n8\n9",
                "0\n1\n2\n4\n5\n6\n7\n8\n8.5\n9",
                vec![
                    "  1", "  2", "- 3", "  4", "  5", "…", "  7", "  8", "+ 8.5", "  9",
                ],
            ),
        ] {
            assert_eq!(changes(before, after), expected, "{before:?} → {after:?}");
        }
    }
}
