//! A FETCH as the server is asked it: every content item in its own form and whole, with what its judgement needs.
//!
//! Forms are kept because servers differ: Courier's `RFC822.TEXT` sets no `\Seen`, its `BODY[TEXT]` does. Whatever is
//! added is asked for with peek, and left out of the answer.

use std::rc::Rc;

use super::views::JudgedCopy;
use crate::imap::fetch::{ContentForm, ContentItem, FetchItem, FetchRequest, Partial, Section, SectionText};
use crate::imap::response::AnsweredForm;

/// What the client asked for, where the server is asked for something else.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// UID was added.
    pub(super) adds_uid: bool,
    /// BODYSTRUCTURE was added.
    pub(super) adds_structure: bool,
    /// Every section that the server is asked for.
    sections: Vec<PlannedSection>,
}

/// A section that the server is asked for, whole.
#[derive(Debug)]
struct PlannedSection {
    form: AnsweredForm,
    section: Section,
    /// What the client asked for of it: all, or a range. Empty where the section was added.
    views: Vec<Option<Partial>>,
    /// The server is asked for the first octet only, and the client gets its ranges from here.
    copy: Option<Rc<JudgedCopy>>,
}

impl Plan {
    /// What the client asked for of this section; `None` where nobody asked for the section at all.
    pub(super) fn views(&self, form: AnsweredForm, section: &Section) -> Option<&[Option<Partial>]> {
        self.planned(form, section).map(|planned| planned.views.as_slice())
    }

    /// The copy that an answer to `<0.1>` of this section stands for.
    pub(super) fn copy(&self, form: AnsweredForm, section: &Section) -> Option<&Rc<JudgedCopy>> {
        self.planned(form, section).and_then(|planned| planned.copy.as_ref())
    }

    /// Whether the server is asked for first octets. The answers may show that its messages are others, and the command
    /// then goes again, without copies.
    pub(super) fn asks_for_first_octets(&self) -> bool {
        self.sections.iter().any(|planned| planned.copy.is_some())
    }

    fn planned(&self, form: AnsweredForm, section: &Section) -> Option<&PlannedSection> {
        self.sections.iter().find(|planned| planned.form == form && planned.section == *section)
    }

    fn want(&mut self, form: AnsweredForm, section: &Section, view: Option<Partial>) -> bool {
        let planned = self.sections.iter_mut().find(|known| known.form == form && known.section == *section);
        if let Some(planned) = planned {
            if !planned.views.contains(&view) {
                planned.views.push(view);
            }
            return false;
        }
        self.sections.push(PlannedSection { form, section: section.clone(), views: vec![view], copy: None });
        true
    }

    /// Of sections that are wanted in ranges only, and of which there is a copy, the server is asked for the first octet.
    fn ask_for_first_octets(
        &mut self,
        items: &mut [FetchItem],
        copy: impl Fn(AnsweredForm, &Section) -> Option<Rc<JudgedCopy>>,
    ) {
        for planned in &mut self.sections {
            if planned.views.iter().all(Option::is_some) {
                planned.copy = copy(planned.form, &planned.section);
            }
        }
        for item in items {
            let FetchItem::Content(content) = item else { continue };
            if self.copy(answered(content.form), &content.section).is_some() {
                content.partial = Some(Partial { start: 0, octets: 1 });
            }
        }
    }

    fn add(&mut self, section: Section, items: &mut Vec<FetchItem>) {
        if self.views(AnsweredForm::Body, &section).is_none() {
            let form = AnsweredForm::Body;
            self.sections.push(PlannedSection {
                form,
                section: section.clone(),
                views: Vec::new(),
                copy: None,
            });
            items.push(FetchItem::Content(ContentItem {
                form: ContentForm::BodyPeek,
                section,
                partial: None,
            }));
        }
    }
}

/// The items to ask the server for, and the plan to answer the client by; `None` where the command can go as it came.
/// `uid` says that the command is UID FETCH, whose answers hold the UID anyway. `copy` finds copies of sections of the only
/// message that the command names.
pub(super) fn rewrite(
    request: &FetchRequest<'_>,
    uid: bool,
    copy: impl Fn(AnsweredForm, &Section) -> Option<Rc<JudgedCopy>>,
) -> Option<(Vec<FetchItem>, Plan)> {
    let mut plan = Plan::default();
    let mut items: Vec<FetchItem> = Vec::new();
    let mut changed = false;
    for item in &request.items {
        let FetchItem::Content(content) = item else {
            items.push(item.clone());
            continue;
        };
        changed |= content.partial.is_some();
        if plan.want(answered(content.form), &content.section, content.partial) {
            items.push(FetchItem::Content(ContentItem { partial: None, ..content.clone() }));
        } else {
            changed = true;
            mark_as_seen(&mut items, content);
        }
    }
    plan.ask_for_first_octets(&mut items, copy);
    let mails = || {
        request.items.iter().filter_map(|item| match item {
            FetchItem::Content(content) if is_content(&content.section) || content.partial.is_some() => {
                Some(content)
            }
            _ => None,
        })
    };
    let judged_anew: Vec<&Section> = mails()
        .filter(|content| plan.copy(answered(content.form), &content.section).is_none())
        .map(|content| &content.section)
        .collect();
    let before = items.len();
    for header in judged_anew.iter().filter_map(|section| header_of(section)) {
        plan.add(header, &mut items);
    }
    let needs_structure = judged_anew.iter().any(|section| !section.path.is_empty());
    if needs_structure && !request.items.contains(&FetchItem::Structure { extended: true }) {
        plan.adds_structure = true;
        items.push(FetchItem::Structure { extended: true });
    }
    if !uid && mails().next().is_some() && !request.items.contains(&FetchItem::Uid) {
        plan.adds_uid = true;
        items.insert(0, FetchItem::Uid);
    }
    (changed || items.len() != before || plan.adds_uid).then_some((items, plan))
}

/// One section, asked for with peek and without: the server must be asked without, because that sets `\Seen`.
fn mark_as_seen(items: &mut [FetchItem], again: &ContentItem) {
    let same = items.iter_mut().find_map(|item| match item {
        FetchItem::Content(content)
            if answered(content.form) == answered(again.form) && content.section == again.section =>
        {
            Some(content)
        }
        _ => None,
    });
    if let Some(content) = same.filter(|_| again.form == ContentForm::Body) {
        content.form = ContentForm::Body;
    }
}

/// How an answer names what was asked for in this form.
const fn answered(form: ContentForm) -> AnsweredForm {
    match form {
        ContentForm::Body | ContentForm::BodyPeek => AnsweredForm::Body,
        ContentForm::Rfc822 => AnsweredForm::Rfc822,
        ContentForm::Rfc822Header => AnsweredForm::Rfc822Header,
        ContentForm::Rfc822Text => AnsweredForm::Rfc822Text,
    }
}

/// Whether a section holds content by its name. Headers are metadata as far as they are header fields.
pub(super) const fn is_content(section: &Section) -> bool {
    matches!(section.text, SectionText::Whole | SectionText::Text)
}

/// The header that says how a section is to be read; the whole message has its own.
pub(super) fn header_of(section: &Section) -> Option<Section> {
    let text = match section.text {
        SectionText::Whole if section.path.is_empty() => return None,
        SectionText::Whole => SectionText::Mime,
        SectionText::Text => SectionText::Header,
        _ => return None,
    };
    Some(Section { path: section.path.clone(), text })
}
