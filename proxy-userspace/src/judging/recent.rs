use std::collections::VecDeque;

use super::protocol::TermsId;

/// Terms that a judge knows at once: those of the actions in use, and of the policy before.
const TERMS_KEPT: usize = 8;

/// What was used last, for [`TERMS_KEPT`] terms. The judge keeps what it made of them; the worker keeps the same list without,
/// and so knows what the judge has forgotten.
#[derive(Debug)]
pub(super) struct RecentTerms<T>(VecDeque<(TermsId, T)>);

impl<T> Default for RecentTerms<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> RecentTerms<T> {
    /// What is known under this name, which is the one that was used last from now on.
    pub(super) fn use_again(&mut self, id: TermsId) -> Option<&T> {
        let at = self.0.iter().position(|(known, _)| *known == id)?;
        let entry = self.0.remove(at)?;
        self.0.push_front(entry);
        self.0.front().map(|(_, value)| value)
    }

    /// Know this, too; the one that was not used for the longest time is forgotten.
    pub(super) fn learn(&mut self, id: TermsId, value: T) {
        self.0.retain(|(known, _)| *known != id);
        self.0.truncate(TERMS_KEPT.saturating_sub(1));
        self.0.push_front((id, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_that_were_not_used_for_the_longest_time_are_forgotten() {
        let mut recent = RecentTerms::default();
        let id = |number: u8| TermsId([number; 16]);
        for number in 0..8 {
            recent.learn(id(number), number);
        }
        assert_eq!(recent.use_again(id(0)), Some(&0));
        recent.learn(id(8), 8);
        assert_eq!(recent.use_again(id(0)), Some(&0));
        assert_eq!(recent.use_again(id(1)), None);
        recent.learn(id(0), 9);
        assert_eq!(recent.use_again(id(0)), Some(&9), "learnt anew");
        assert_eq!(recent.use_again(id(2)), Some(&2), "nothing else was forgotten for it");
    }
}
