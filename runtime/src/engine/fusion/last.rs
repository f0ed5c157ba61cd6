//! Which images a loop is the last to read: their memory can go while it reads them.

use std::collections::BTreeSet;

use super::scope::{BYTE, Name, Scope};

/// What each node of a graph reads, here and inside.
pub(super) struct Readers<'s, 'a> {
    scope: &'s Scope<'a>,
    read: Vec<BTreeSet<Name<'a>>>,
}

impl<'s, 'a> Readers<'s, 'a> {
    /// `None` if a graph inside is none.
    pub(super) fn of(scope: &'s Scope<'a>) -> Option<Self> {
        let read = scope.nodes.iter().map(Scope::read_by).collect::<Option<_>>()?;
        Some(Self { scope, read })
    }

    /// The images of bytes that node number `at` reads after all others.
    ///
    /// Such an image is what a `Reshape` makes of what a loop gives, and nobody else reads that. Its
    /// other readers are loops whose results the node needs.
    pub(super) fn last_read(&self, at: usize) -> BTreeSet<Name<'a>> {
        let needed = self.needed_by(at);
        let is_before = |reader: usize| {
            reader == at || (needed.contains(&reader) && self.scope.nodes[reader].is_loop())
        };
        let is_last = |image: &Name<'a>| {
            self.bytes_of_loop(image).is_some_and(|rows| {
                [*image, rows].iter().all(|value| !self.scope.outputs.contains(value))
                    && self.readers(rows).count() == 1
                    && self.readers(image).all(is_before)
            })
        };
        self.read[at].iter().copied().filter(is_last).collect()
    }

    /// What a loop gives, if `image` is that in another shape, and bytes.
    fn bytes_of_loop(&self, image: Name<'_>) -> Option<Name<'a>> {
        let rows = *self.scope.plain(image, "Reshape")?.1.inputs.first()?;
        let node = &self.scope.nodes[self.scope.maker(rows)?];
        let at = node.outputs.iter().position(|output| *output == rows)?;
        let body = Scope::read(node.body.filter(|_| node.is_loop())?, None)?;
        (body.output_elements.get(at) == Some(&BYTE)).then_some(rows)
    }

    fn readers(&self, value: Name<'a>) -> impl Iterator<Item = usize> {
        (0..self.read.len()).filter(move |&at| self.read[at].contains(value))
    }

    /// The nodes whose results node number `at` needs.
    fn needed_by(&self, at: usize) -> BTreeSet<usize> {
        let (mut needed, mut open) = (BTreeSet::new(), vec![at]);
        while let Some(node) = open.pop() {
            let makers = self.read[node].iter().filter_map(|value| self.scope.maker(value));
            open.extend(makers.filter(|maker| needed.insert(*maker)));
        }
        needed
    }
}
