//! What is inside documents: embedded files, macros, scripts, and what is loaded from elsewhere.
//!
//! No document is understood as its own program understands it. What counts is what can hurt: each embedded file becomes
//! a member, and each construct that runs or loads something becomes a condition. Where programs read a damaged or an odd
//! document in different ways, the wider reading is taken.

/// Numbers and places in octets.
mod octets;
/// Deflate.
mod inflate;
/// Compound files ([MS-CFB]).
mod compound;
/// What the streams of a compound file mean.
mod ole;
/// Modules of VBA ([MS-OVBA]).
mod vba;
/// Records of worksheets ([MS-XLS]).
mod worksheet;
/// Tags and attributes of XML and HTML.
mod markup;
/// Office Open XML and OpenDocument: what the parts of the archive mean.
mod package;
/// OneNote.
mod onenote;
/// Windows shortcuts.
mod shortcut;
/// PDF.
mod pdf;
/// Pages that carry files or build them.
mod page;
/// Rich Text Format.
mod rtf;

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::{Conditions, Member, OpenBounds, Visit};
use crate::content::{Condition, RealType};

/// Characters of the name of a member. What is longer is cut at its beginning: the end says what the file is.
const MEMBER_NAME_CHARS_MAX: usize = 1_024;

/// Whether [`open`] looks into files of this type.
pub(super) const fn opens(real: RealType) -> bool {
    matches!(
        real,
        RealType::Ole
            | RealType::Msi
            | RealType::Ooxml
            | RealType::Odf
            | RealType::Rtf
            | RealType::OneNote
            | RealType::Shortcut
            | RealType::Pdf
            | RealType::Html
            | RealType::Svg
            | RealType::Xml
            | RealType::Text
            | RealType::Chm
    )
}

/// Open a document of this type, as [`super::open`] does.
pub(super) fn open(
    real: RealType,
    octets: &[u8],
    bounds: &mut OpenBounds,
    visit: &mut Visit<'_>,
) -> Conditions {
    let mut opening = Opening { bounds, visit, found: Conditions::new(), is_ended: false };
    match real {
        RealType::Ole | RealType::Msi => ole::open(octets, &mut opening),
        RealType::Ooxml | RealType::Odf => package::open(octets, &mut opening),
        RealType::Rtf => rtf::open(octets, &mut opening),
        RealType::OneNote => onenote::open(octets, &mut opening),
        RealType::Shortcut => shortcut::open(octets, &mut opening),
        RealType::Pdf => pdf::open(octets, &mut opening),
        RealType::Html | RealType::Svg | RealType::Xml | RealType::Text => {
            page::open(real, octets, &mut opening);
        }
        RealType::Chm => opening.found(Condition::UnknownArchive),
        _ => {}
    }
    opening.found
}

/// A document that is being opened: what may be made of it still, who takes its members, what was found.
struct Opening<'o, 'v> {
    bounds: &'o mut OpenBounds,
    visit: &'o mut Visit<'v>,
    found: Conditions,
    is_ended: bool,
}

impl Opening<'_, '_> {
    fn found(&mut self, condition: Condition) {
        self.found.insert(condition);
    }

    /// Whether nobody wants more, or nothing more may be made.
    fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Takes so many octets out of the bounds, before they are made. Whether there were as many.
    fn takes(&mut self, octets: usize) -> bool {
        if self.bounds.octets(octets as u64).is_err() {
            self.found(Condition::ArchiveLimits);
            self.is_ended = true;
        }
        !self.is_ended
    }

    /// A member whose octets were taken out of the bounds.
    fn taken(&mut self, names: &[&str], declared_types: Vec<String>, octets: Cow<'_, [u8]>) {
        if self.is_ended || octets.is_empty() {
            return;
        }
        if self.bounds.member().is_err() {
            self.found(Condition::ArchiveLimits);
            self.is_ended = true;
            return;
        }
        let names = names.iter().map(|name| clean(name)).filter(|name| !name.is_empty()).collect();
        let member = Member { names, declared_types, octets };
        self.is_ended = (self.visit)(self.bounds, member) == ControlFlow::Break(());
    }

    /// A member. Octets of the document itself count, too: thousands of members may share them.
    fn member(&mut self, names: &[&str], octets: &[u8]) {
        if self.takes(octets.len()) {
            self.taken(names, Vec::new(), Cow::Borrowed(octets));
        }
    }

    /// Octets that may still be made of so many compressed ones, as a length.
    fn room(&self, compressed: usize) -> usize {
        usize::try_from(self.bounds.room(compressed as u64)).unwrap_or(usize::MAX)
    }
}

/// A name without control characters.
fn clean(name: &str) -> String {
    let characters = name.chars().filter(|c| !c.is_control()).collect::<Vec<_>>();
    characters.iter().skip(characters.len().saturating_sub(MEMBER_NAME_CHARS_MAX)).collect()
}

#[cfg(test)]
mod tests;
