//! Reasons and sentences of deny messages, language by language.

use super::super::Condition;
use super::super::rules::RuleName;
use super::shown;
use crate::config::DenyLanguage;

/// The words of one language. `{}` stands for what strangers or the owner wrote.
pub(super) struct Wording {
    language: DenyLanguage,
    /// In the place of a file.
    pub(super) attachment: &'static str,
    /// In the place of what is no single file.
    pub(super) mail: &'static str,
    pub(super) removed: &'static str,
    pub(super) denied: &'static str,
    eicar: &'static str,
    name: &'static str,
    kind: &'static str,
    unmatched: &'static str,
    list: &'static str,
    hash: &'static str,
    virus: &'static str,
}

impl Wording {
    pub(super) const fn of(language: DenyLanguage) -> Self {
        match language {
            DenyLanguage::En => ENGLISH,
            DenyLanguage::De => GERMAN,
            DenyLanguage::Fr => FRENCH,
            DenyLanguage::Es => SPANISH,
            DenyLanguage::It => ITALIAN,
            DenyLanguage::Nl => DUTCH,
        }
    }

    /// Why something was removed, in words that the reader of a mail understands.
    pub(super) fn reason_words(&self, rule: &RuleName) -> String {
        let with = |sentence: &str, value: &str| sentence.replace("{}", value);
        match rule {
            RuleName::Eicar => self.eicar.to_owned(),
            RuleName::Name { pattern, .. } => with(self.name, pattern),
            RuleName::Type(real) if self.language == DenyLanguage::En => {
                format!("it is a {real}, and files of this type are not allowed")
            }
            RuleName::Type(real) => with(self.kind, real.media_type()),
            RuleName::Media { media_type, .. } => with(self.kind, &shown(media_type)),
            RuleName::UnmatchedType { media_type } => with(self.kind, &shown(media_type)),
            RuleName::List { list, .. } => with(self.list, list),
            RuleName::UnmatchedName { .. } => self.unmatched.to_owned(),
            RuleName::Hash { .. } => self.hash.to_owned(),
            RuleName::Virus { signature, .. } => with(self.virus, &shown(signature)),
            RuleName::Condition(found) => match self.language {
                DenyLanguage::En => found.to_string(),
                DenyLanguage::De => german(*found).to_owned(),
                DenyLanguage::Fr => french(*found).to_owned(),
                DenyLanguage::Es => spanish(*found).to_owned(),
                DenyLanguage::It => italian(*found).to_owned(),
                DenyLanguage::Nl => dutch(*found).to_owned(),
            },
        }
    }
}

const ENGLISH: Wording = Wording {
    language: DenyLanguage::En,
    attachment: "[This attachment was removed by the mail gateway. Reason: %(reason)%.]",
    mail: "[This mail was removed by the mail gateway. Reason: %(reason)%.]",
    removed: "removed",
    denied: "removed with the whole mail",
    eicar: "it contains a test virus (EICAR)",
    name: "files with names like {} are not allowed",
    kind: "files of this type are not allowed ({})",
    unmatched: "files with names like this are not allowed",
    list: "files of this kind are not allowed ({})",
    hash: "the file is on the list of blocked files",
    virus: "it contains a virus ({})",
};

const GERMAN: Wording = Wording {
    language: DenyLanguage::De,
    attachment: "[Dieser Anhang wurde vom Mail-Gateway entfernt. Grund: %(reason)%.]",
    mail: "[Diese Mail wurde vom Mail-Gateway entfernt. Grund: %(reason)%.]",
    removed: "entfernt",
    denied: "mit der ganzen Mail entfernt",
    eicar: "Er enthält einen Testvirus (EICAR)",
    name: "Dateien mit Namen wie {} sind nicht erlaubt",
    kind: "Dateien dieses Typs sind nicht erlaubt ({})",
    unmatched: "Dateien mit solchen Namen sind nicht erlaubt",
    list: "Dateien dieser Art sind nicht erlaubt ({})",
    hash: "Die Datei steht auf der Liste gesperrter Dateien",
    virus: "Er enthält einen Virus ({})",
};

const fn german(found: Condition) -> &'static str {
    match found {
        Condition::EncryptedFile => {
            "Die Datei öffnet sich nur mit einem Kennwort und kann nicht geprüft werden"
        }
        Condition::EncryptedMail => "Der Inhalt ist verschlüsselt und kann nicht geprüft werden",
        Condition::PartialMessage => {
            "Es ist ein Stück einer Mail, das ohne die anderen nicht geprüft werden kann"
        }
        Condition::ExternalBody => "Der Inhalt liegt anderswo und kann dort nicht geprüft werden",
        Condition::MimeLimits => "Sie ist so aufgebaut, dass sie nicht geprüft werden kann",
        Condition::ArchiveLimits => "Die Datei enthält mehr, als geprüft werden kann",
        Condition::BrokenFile => "Die Datei ist beschädigt und kann nicht geprüft werden",
        Condition::UnknownArchive => "Archive dieser Art können nicht geprüft werden",
        Condition::Macro => "Das Dokument enthält Makros",
        Condition::ExternalReference => "Das Dokument lädt Inhalte von anderswo",
        Condition::ActiveContent => "Das Dokument enthält Skripte oder eingebettete Dateien",
        Condition::Smuggling => "Die Webseite setzt eine Datei auf Ihrem Computer zusammen",
        Condition::CannotScan => "Die Datei konnte nicht geprüft werden",
    }
}

const FRENCH: Wording = Wording {
    language: DenyLanguage::Fr,
    attachment: "[Cette pièce jointe a été supprimée par la passerelle de messagerie. Raison : %(reason)%.]",
    mail: "[Ce message a été supprimé par la passerelle de messagerie. Raison : %(reason)%.]",
    removed: "supprimé",
    denied: "supprimé avec tout le message",
    eicar: "elle contient un virus de test (EICAR)",
    name: "les fichiers dont le nom ressemble à {} ne sont pas autorisés",
    kind: "les fichiers de ce type ne sont pas autorisés ({})",
    unmatched: "les fichiers portant un tel nom ne sont pas autorisés",
    list: "les fichiers de cette sorte ne sont pas autorisés ({})",
    hash: "le fichier figure sur la liste des fichiers bloqués",
    virus: "elle contient un virus ({})",
};

const fn french(found: Condition) -> &'static str {
    match found {
        Condition::EncryptedFile => {
            "le fichier ne s'ouvre qu'avec un mot de passe et ne peut pas être vérifié"
        }
        Condition::EncryptedMail => "le contenu est chiffré et ne peut pas être vérifié",
        Condition::PartialMessage => {
            "c'est un morceau de message, qui ne peut pas être vérifié sans les autres"
        }
        Condition::ExternalBody => "le contenu se trouve ailleurs, où il ne peut pas être vérifié",
        Condition::MimeLimits => "il est construit de telle sorte qu'il ne peut pas être vérifié",
        Condition::ArchiveLimits => "le fichier contient plus que ce qui peut être vérifié",
        Condition::BrokenFile => "le fichier est endommagé et ne peut pas être vérifié",
        Condition::UnknownArchive => "les archives de cette sorte ne peuvent pas être vérifiées",
        Condition::Macro => "le document contient des macros",
        Condition::ExternalReference => "le document charge du contenu venant d'ailleurs",
        Condition::ActiveContent => "le document contient des scripts ou des fichiers intégrés",
        Condition::Smuggling => "la page web assemble un fichier sur votre ordinateur",
        Condition::CannotScan => "le fichier n'a pas pu être vérifié",
    }
}

const SPANISH: Wording = Wording {
    language: DenyLanguage::Es,
    attachment: "[La pasarela de correo eliminó este archivo adjunto. Motivo: %(reason)%.]",
    mail: "[La pasarela de correo eliminó este mensaje. Motivo: %(reason)%.]",
    removed: "eliminado",
    denied: "eliminado con todo el mensaje",
    eicar: "contiene un virus de prueba (EICAR)",
    name: "no se permiten archivos con nombres como {}",
    kind: "no se permiten archivos de este tipo ({})",
    unmatched: "no se permiten archivos con nombres así",
    list: "no se permiten archivos de esta clase ({})",
    hash: "el archivo está en la lista de archivos bloqueados",
    virus: "contiene un virus ({})",
};

const fn spanish(found: Condition) -> &'static str {
    match found {
        Condition::EncryptedFile => "el archivo solo se abre con una contraseña y no se puede comprobar",
        Condition::EncryptedMail => "el contenido está cifrado y no se puede comprobar",
        Condition::PartialMessage => "es un fragmento de un mensaje, que no se puede comprobar sin los demás",
        Condition::ExternalBody => "el contenido está en otro lugar, donde no se puede comprobar",
        Condition::MimeLimits => "está construido de forma que no se puede comprobar",
        Condition::ArchiveLimits => "el archivo contiene más de lo que se puede comprobar",
        Condition::BrokenFile => "el archivo está dañado y no se puede comprobar",
        Condition::UnknownArchive => "no se pueden comprobar los archivos comprimidos de esta clase",
        Condition::Macro => "el documento contiene macros",
        Condition::ExternalReference => "el documento carga contenido de otro lugar",
        Condition::ActiveContent => "el documento contiene scripts o archivos incrustados",
        Condition::Smuggling => "la página web construye un archivo en su ordenador",
        Condition::CannotScan => "el archivo no se pudo comprobar",
    }
}

const ITALIAN: Wording = Wording {
    language: DenyLanguage::It,
    attachment: "[Questo allegato è stato rimosso dal gateway di posta. Motivo: %(reason)%.]",
    mail: "[Questo messaggio è stato rimosso dal gateway di posta. Motivo: %(reason)%.]",
    removed: "rimosso",
    denied: "rimosso con tutto il messaggio",
    eicar: "contiene un virus di prova (EICAR)",
    name: "i file con nomi come {} non sono consentiti",
    kind: "i file di questo tipo non sono consentiti ({})",
    unmatched: "i file con nomi simili non sono consentiti",
    list: "i file di questo genere non sono consentiti ({})",
    hash: "il file è nell'elenco dei file bloccati",
    virus: "contiene un virus ({})",
};

const fn italian(found: Condition) -> &'static str {
    match found {
        Condition::EncryptedFile => "il file si apre solo con una password e non può essere controllato",
        Condition::EncryptedMail => "il contenuto è cifrato e non può essere controllato",
        Condition::PartialMessage => {
            "è un pezzo di un messaggio, che non può essere controllato senza gli altri"
        }
        Condition::ExternalBody => "il contenuto si trova altrove, dove non può essere controllato",
        Condition::MimeLimits => "è costruito in modo da non poter essere controllato",
        Condition::ArchiveLimits => "il file contiene più di quanto si possa controllare",
        Condition::BrokenFile => "il file è danneggiato e non può essere controllato",
        Condition::UnknownArchive => "gli archivi di questo genere non possono essere controllati",
        Condition::Macro => "il documento contiene macro",
        Condition::ExternalReference => "il documento carica contenuti da altrove",
        Condition::ActiveContent => "il documento contiene script o file incorporati",
        Condition::Smuggling => "la pagina web costruisce un file sul suo computer",
        Condition::CannotScan => "il file non ha potuto essere controllato",
    }
}

const DUTCH: Wording = Wording {
    language: DenyLanguage::Nl,
    attachment: "[Deze bijlage is verwijderd door de mailgateway. Reden: %(reason)%.]",
    mail: "[Deze mail is verwijderd door de mailgateway. Reden: %(reason)%.]",
    removed: "verwijderd",
    denied: "verwijderd met de hele mail",
    eicar: "de bijlage bevat een testvirus (EICAR)",
    name: "bestanden met namen als {} zijn niet toegestaan",
    kind: "bestanden van dit type zijn niet toegestaan ({})",
    unmatched: "bestanden met zulke namen zijn niet toegestaan",
    list: "bestanden van deze soort zijn niet toegestaan ({})",
    hash: "het bestand staat op de lijst van geblokkeerde bestanden",
    virus: "de bijlage bevat een virus ({})",
};

const fn dutch(found: Condition) -> &'static str {
    match found {
        Condition::EncryptedFile => {
            "het bestand opent alleen met een wachtwoord en kan niet worden gecontroleerd"
        }
        Condition::EncryptedMail => "de inhoud is versleuteld en kan niet worden gecontroleerd",
        Condition::PartialMessage => {
            "het is een stuk van een mail, dat zonder de andere niet kan worden gecontroleerd"
        }
        Condition::ExternalBody => "de inhoud staat elders, waar die niet kan worden gecontroleerd",
        Condition::MimeLimits => "de mail is zo opgebouwd dat die niet kan worden gecontroleerd",
        Condition::ArchiveLimits => "het bestand bevat meer dan kan worden gecontroleerd",
        Condition::BrokenFile => "het bestand is beschadigd en kan niet worden gecontroleerd",
        Condition::UnknownArchive => "archieven van deze soort kunnen niet worden gecontroleerd",
        Condition::Macro => "het document bevat macro's",
        Condition::ExternalReference => "het document laadt inhoud van elders",
        Condition::ActiveContent => "het document bevat scripts of ingesloten bestanden",
        Condition::Smuggling => "de webpagina bouwt een bestand op uw computer",
        Condition::CannotScan => "het bestand kon niet worden gecontroleerd",
    }
}
