//! The memory of a thread for the rows of a call, made when a row first needs it.

use super::group::Workspace;
use super::tile::Scratch;

#[derive(Default)]
pub(super) struct Memory {
    scratch: Option<Box<Scratch>>,
    workspace: Option<Box<Workspace>>,
}

impl Memory {
    pub fn scratch(&mut self) -> &mut Scratch {
        self.scratch.get_or_insert_with(Scratch::boxed)
    }

    /// For groups of rows with this number of classes.
    pub fn workspace(&mut self, classes: usize) -> &mut Workspace {
        self.workspace
            .get_or_insert_with(|| Workspace::boxed(classes))
    }
}
