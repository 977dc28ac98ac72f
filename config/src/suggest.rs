//! "Did you mean": the known name nearest to a misspelt one.

/// Slips between two names: letters added, left out, changed or swapped with their neighbour.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The known name nearest to `name`, if it is near enough to have been meant: one slip in a short name, two in one
/// of six letters or more.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells a name this long, and the comparison's cost grows with it.
    if name.len() > 64 {
        return None;
    }
    let allowed = if name.chars().count() < 6 { 1 } else { 2 };
    known
        .into_iter()
        .map(|candidate| (slips(name, candidate), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The known dotted path that was meant by `path`: spelt nearly the same, or with the same last part (written in
/// another section), or with nearly the same last part.
pub(crate) fn nearest_path<'a>(path: &str, known: &[&'a str]) -> Option<&'a str> {
    let leaf = |path: &'a str| path.rsplit('.').next().unwrap_or(path);
    let wanted = path.rsplit('.').next().unwrap_or(path);
    let by_leaf = |wanted: &str| known.iter().copied().find(|candidate| leaf(candidate) == wanted);
    nearest(path, known.iter().copied())
        .or_else(|| by_leaf(wanted))
        .or_else(|| nearest(wanted, known.iter().copied().map(leaf)).and_then(by_leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, expected) in [("", "abc", 3), ("reward", "reward", 0), ("rewrd", "reward", 1), ("pirce", "price", 1)]
        {
            assert_eq!(slips(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_offered() {
        let known = ["ledger.reward", "ledger.price", "tasks.queue", "seed"];
        let meant = |path| nearest_path(path, &known);
        assert_eq!(meant("ledger.rewrd"), Some("ledger.reward"));
        assert_eq!(meant("ledgr.pric"), Some("ledger.price"));
        assert_eq!(meant("price"), Some("ledger.price"));
        assert_eq!(meant("rewrd"), Some("ledger.reward"));
        assert_eq!(meant("sede"), Some("seed"));
        assert_eq!(meant("colour"), None);
        assert_eq!(meant(&"x".repeat(1000)), None);
    }
}
