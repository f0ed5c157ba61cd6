//! What depends on what, by name. Knows neither Rust nor Cargo.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

/// Names and, for each pair of which one needs the other, where the first one says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    edges: BTreeMap<String, BTreeMap<String, String>>,
}

/// One thing needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// Where it says so: a file, a line, and what stands there.
    pub(super) place: &'a str,
}

impl fmt::Display for Edge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}, {}", self.from, self.to, self.place)
    }
}

impl Graph {
    pub(super) fn add_node(&mut self, name: &str) {
        self.edges.entry(name.to_owned()).or_default();
    }

    /// Adds an edge; of two between the same names the first place is kept.
    pub(super) fn add_edge(&mut self, from: &str, to: &str, place: impl FnOnce() -> String) {
        if from != to {
            self.add_node(to);
            let targets = self.edges.entry(from.to_owned()).or_default();
            targets.entry(to.to_owned()).or_insert_with(place);
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        self.edges.iter().flat_map(|(from, targets)| {
            targets.iter().map(move |(to, place)| Edge { from, to, place })
        })
    }

    /// The shortest way from `start` back to itself.
    fn circle_from(&self, start: &str) -> Option<Vec<Edge<'_>>> {
        let mut reached_by: BTreeMap<&str, Edge<'_>> = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(from) = waiting.pop_front() {
            for (to, place) in self.edges.get(from)? {
                if reached_by.contains_key(to.as_str()) {
                    continue;
                }
                let (from, _) = self.edges.get_key_value(from)?;
                reached_by.insert(to, Edge { from, to, place });
                waiting.push_back(to);
            }
        }
        let mut way = vec![*reached_by.get(start)?];
        while way.last()?.from != start {
            way.push(*reached_by.get(way.last()?.from)?);
        }
        way.reverse();
        Some(way)
    }

    /// A shortest circle for each group of names that need each other, at most one for a name.
    pub(super) fn circles(&self) -> Vec<Vec<Edge<'_>>> {
        let mut found: Vec<_> = self.nodes().filter_map(|node| self.circle_from(node)).collect();
        found.sort_by_key(Vec::len);
        let mut seen = BTreeSet::new();
        found.retain(|circle| {
            let is_new = circle.iter().all(|edge| !seen.contains(edge.from));
            seen.extend(circle.iter().map(|edge| edge.from));
            is_new
        });
        found
    }
}

/// A line for each edge, a blank line after each circle.
pub(super) fn describe(circles: &[Vec<Edge<'_>>]) -> String {
    let lines = |circle: &Vec<Edge<'_>>| -> String {
        circle.iter().map(|edge| format!("  {edge}\n")).chain(["\n".to_owned()]).collect()
    };
    circles.iter().map(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        edges.iter().for_each(|(from, to)| graph.add_edge(from, to, || format!("{from}.rs")));
        graph
    }

    #[test]
    fn a_circle_is_found_by_its_shortest_way_and_none_where_there_is_none() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 5] = [
            (&[("a", "b"), ("b", "c"), ("a", "c")], &[]),
            (&[("a", "a")], &[]), // a name needs itself anyway
            (&[("a", "b"), ("b", "a")], &["a b"]),
            (&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("b", "a")], &["a b"]),
            (&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")], &["a b", "c d"]),
        ];
        for (edges, expected) in cases {
            let graph = graph(edges);
            let circles = graph
                .circles()
                .into_iter()
                .map(|circle| circle.iter().map(|edge| edge.from).collect::<Vec<_>>().join(" "));
            assert_eq!(circles.collect::<Vec<_>>(), expected, "{edges:?}");
        }
        let graph = graph(&[("a", "b"), ("b", "a")]);
        let message = describe(&graph.circles());
        assert_eq!(message, "  a needs b, a.rs\n  b needs a, b.rs\n\n");
    }
}
