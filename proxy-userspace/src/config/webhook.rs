use std::fmt;

use serde::{Deserialize, Serialize};

use super::describe::ValueForm;
use super::fault::Reason;
use super::kinds::{Kind, quoted};
use super::report::Written;
use crate::helper::HttpUrl;

/// The URL of the owner's webhook. Its path often is the secret that lets somebody post, so that nothing shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookUrl(HttpUrl);

impl WebhookUrl {
    /// The URL, taken apart.
    pub(crate) const fn url(&self) -> &HttpUrl {
        &self.0
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of `alarm.webhook`. No message about it shows what was written.
pub(super) fn webhook() -> Kind<WebhookUrl> {
    let read = |written: &mut Written<'_, '_>| {
        let url = match written.as_text() {
            Some(text) => HttpUrl::of_owner(text).map_err(|fault| fault.to_string()),
            None => Err("is no text".to_owned()),
        };
        let remedy = "write a URL such as \"https://alerts.example.org/postern\"";
        url.map(WebhookUrl).map_err(|what| written.fault_unshown(Reason::unfit(what, remedy))).ok()
    };
    let toml = |value: &WebhookUrl| quoted(&value.0.text());
    let form = ValueForm::Text { what: "a URL of HTTPS or HTTP", words: &[] };
    Kind { read: Box::new(read), toml: Box::new(toml), form }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_message_about_a_webhook_has_its_secret() {
        for url in ["https://alerts.example.org/T0SECRET", "ftp://T0SECRET", "https://T0SECRET@a.example/#"] {
            for line in [
                format!("webhook = \"{url}\""),
                format!("webhook = [\"{url}\"]"),
                format!("webhok = \"{url}\""),
            ] {
                let text = format!("[alarm]\n{line}\n");
                match crate::config::parse(&text, Path::new("/postern.toml")) {
                    Ok(config) => assert!(!format!("{config:?}").contains("T0SECRET")),
                    Err(error) => assert!(!format!("{error} {error:?}").contains("T0SECRET"), "{error}"),
                }
            }
        }
        let shown =
            format!("{:?}", WebhookUrl(HttpUrl::of_owner("https://a.example:8443/T0SECRET").unwrap()));
        assert_eq!(shown, "https://a.example:8443/…");
    }
}
