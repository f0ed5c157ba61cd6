//! How many nodes of a graph a provider took, and which it left. Plain values.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Operators that are named to people, at most.
const MOST_NAMED: usize = 5;

/// How many nodes of a stage's graph another provider than the CPU took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Those that it took.
    pub taken: usize,
    /// All that the graph had when they were given away: ONNX Runtime computes some before, and
    /// joins others.
    pub all: usize,
    /// By operator, those that it left to the CPU.
    pub left: BTreeMap<String, usize>,
}

impl fmt::Display for Nodes {
    /// `609 of 661 nodes, not Gather (2), Scan (1)`: the operators that most nodes are of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} nodes", self.taken, self.all)?;
        let mut left: Vec<_> = self.left.iter().collect();
        left.sort_by_key(|(name, count)| (usize::MAX - **count, *name));
        let named = left.iter().take(MOST_NAMED).map(|(name, count)| format!("{name} ({count})"));
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            return Ok(());
        }
        let more = if left.len() > MOST_NAMED { ", ..." } else { "" };
        write!(f, ", not {}{more}", named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_that_most_nodes_are_of_come_first() {
        let nodes = |left: &[(&str, usize)]| {
            let left: BTreeMap<_, _> =
                left.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            let count: usize = left.values().sum();
            Nodes { taken: 10, all: 10 + count, left }.to_string()
        };
        assert_eq!(nodes(&[]), "10 of 10 nodes");
        assert_eq!(nodes(&[("Add", 1), ("Scan", 3)]), "10 of 14 nodes, not Scan (3), Add (1)");
        let many = [("A", 1), ("B", 1), ("C", 1), ("D", 1), ("E", 1), ("F", 1)];
        let expected = "10 of 16 nodes, not A (1), B (1), C (1), D (1), E (1), ...";
        assert_eq!(nodes(&many), expected);
    }
}
