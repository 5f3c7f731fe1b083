use super::super::RealType;
use super::*;

fn removed(rule: RuleName, name: Option<&str>) -> Removed {
    Removed { rule, name: name.map(str::to_owned), action: ContentAction::Remove }
}

fn virus() -> RuleName {
    RuleName::Virus { scanner: "yara".into(), signature: "Bad<b>Thing".into() }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='~') && !"<>&=%\"\\".contains(c))
}

#[test]
fn a_deny_text_is_plain_and_bounded_whatever_a_stranger_writes() {
    let message = DenyMessage("%(reason)% %(filename)% %(virus)%".into());
    let notice = DenyNotice::new(Some(&message), DenyLanguage::En);
    let hostile = "x<script>&=%(reason)%\"\\\u{e4}\r\n\u{202e}exe.".repeat(90);
    let rules = [
        RuleName::Name { name: hostile.clone(), pattern: hostile.clone() },
        RuleName::Virus { scanner: hostile.clone(), signature: hostile.clone() },
        RuleName::Media { media_type: hostile.clone(), pattern: hostile.clone() },
        RuleName::UnmatchedType { media_type: hostile.clone() },
    ];
    for rule in rules {
        let text = notice.text(&removed(rule, Some(&hostile)));
        assert!(is_plain(&text), "{text}");
        assert!(text.len() <= DENY_TEXT_CHARS_MAX);
    }
    let long = RuleName::Name { name: "x".into(), pattern: "*".repeat(900) };
    assert_eq!(DenyNotice::default().text(&removed(long, None)).len(), DENY_TEXT_CHARS_MAX);
}

#[test]
fn variables_say_what_was_removed_and_why() {
    let message =
        DenyMessage("%(filename)%: %(action)%, %(virus)%, %(reason)%.%(recovery)% Rückfragen: 4711".into());
    let notice = DenyNotice::new(Some(&message), DenyLanguage::De);
    assert_eq!(
        notice.text(&removed(virus(), Some("Gr\u{fc}\u{df}e.exe"))),
        "Gruesse.exe: entfernt, Bad_b_Thing, Er enthaelt einen Virus (Bad_b_Thing). Rueckfragen: 4711"
    );
    let denied = Removed { action: ContentAction::Deny, ..removed(RuleName::Eicar, None) };
    assert_eq!(
        notice.text(&denied),
        ": mit der ganzen Mail entfernt, EICAR, Er enthaelt einen Testvirus (EICAR). Rueckfragen: 4711"
    );
}

#[test]
fn the_end_of_a_long_name_is_shown() {
    let message = DenyMessage("%(filename)%".into());
    let notice = DenyNotice::new(Some(&message), DenyLanguage::En);
    let name = format!("invoice{}.pdf.exe", " ".repeat(200));
    let text = notice.text(&removed(RuleName::Eicar, Some(&name)));
    assert!(text.starts_with("invoice ") && text.ends_with(".pdf.exe") && text.len() < 80, "{text}");
}

#[test]
fn what_a_variable_says_is_not_read_for_variables() {
    let message = DenyMessage("%(filename)%".into());
    let notice = DenyNotice::new(Some(&message), DenyLanguage::En);
    assert_eq!(notice.text(&removed(virus(), Some("%(virus)%"))), "_(virus)_");
}

#[test]
fn every_language_has_a_reason_of_its_own_for_everything() {
    let mut rules = vec![
        RuleName::Eicar,
        RuleName::Name { name: "a.exe".into(), pattern: "*.exe".into() },
        RuleName::Type(RealType::Elf),
        RuleName::Media { media_type: "image/gif".into(), pattern: "image/*".into() },
        RuleName::List { list: "scripts".into(), found: "a.js".into() },
        RuleName::UnmatchedName { name: "a".into() },
        RuleName::Hash { sha256: [0; 32] },
        virus(),
    ];
    rules.extend(Condition::ALL.map(RuleName::Condition));
    for rule in rules {
        let texts = DenyLanguage::ALL
            .map(|language| DenyNotice::new(None, language).text(&removed(rule.clone(), None)));
        let different: std::collections::BTreeSet<_> = texts.iter().collect();
        assert_eq!(different.len(), DenyLanguage::ALL.len(), "{texts:?}");
        for text in &texts {
            assert!(
                is_plain(text) && text.starts_with('[') && text.ends_with(".]") && !text.contains('?'),
                "{text}"
            );
        }
    }
}

#[test]
fn english_reasons_are_those_of_earlier_versions() {
    let text = |rule| DenyNotice::default().text(&removed(rule, None));
    assert_eq!(
        text(RuleName::Type(RealType::Elf)),
        "[This attachment was removed by the mail gateway. Reason: it is a Linux program, and files of this type are \
         not allowed.]"
    );
    assert!(text(RuleName::Condition(Condition::MimeLimits)).starts_with("[This mail was removed"));
}
