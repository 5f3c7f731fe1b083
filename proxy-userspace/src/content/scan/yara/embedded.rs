use super::YaraSource;

/// The namespace of these rules: records name them `postern.RULE`.
pub(super) const NAMESPACE: &str = "postern";

/// The rules that Postern brings along.
pub(super) fn sources() -> Vec<YaraSource> {
    [
        ("test_file.yar", include_str!("../rules/test_file.yar")),
        ("disguise.yar", include_str!("../rules/disguise.yar")),
        ("documents.yar", include_str!("../rules/documents.yar")),
        ("scripts.yar", include_str!("../rules/scripts.yar")),
        ("pages.yar", include_str!("../rules/pages.yar")),
    ]
    .map(|(file, text)| YaraSource { file: file.to_owned(), text: text.to_owned() })
    .into()
}
