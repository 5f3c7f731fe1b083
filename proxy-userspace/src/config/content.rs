use std::path::PathBuf;

use super::content_text::{DenyMessage, DenyMessageText, FileHash, MediaTypePattern};
use super::fault::Reason;
use super::kinds::{flag, list, path, text};
use super::names::NamePattern;
use super::setting::{StandIn, section, sections, settings, words};

/// Each is compared with each file name of each message.
const NAME_PATTERNS_MAX: usize = 1000;
/// Each is compared with each type of each part.
const TYPE_PATTERNS_MAX: usize = 1000;
/// A rule for each list and action, and some to spare.
const LIST_RULES_MAX: usize = 32;
/// More belong into a file.
const HASHES_MAX: usize = 1000;
/// Files of hashes. What counts is how many hashes they hold.
const HASH_FILES_MAX: usize = 16;

settings! {
    /// `[action.content]`: rules about parts of mail.
    pub struct ContentSettings {
        /// Forbidden file names, as patterns: `*` stands for any characters, `?` for one. Each is short for an entry of
        /// `name_rule` with `action = "remove"`, behind those that are written.
        names: Vec<NamePattern> = list(text::<NamePattern>(), Some(NAME_PATTERNS_MAX), None).default(Vec::new())
            .such_as(r#"["*.exe", "*.scr", "invoice-??.js"]"#);
        /// Forbidden types, as a part's own octets show them, whatever its name and its declared type say, and whatever
        /// `detect_types` says. An empty list forbids none.
        types: Vec<ForbiddenType> = list(text::<ForbiddenType>(), None, None).default(ForbiddenType::ALL.to_vec());
        /// Forbidden kinds of files, by lists of names and types that Postern has. Each is short for an entry of
        /// `list_rule` with `action = "remove"`, behind those that are written.
        lists: Vec<ContentList> = list(text::<ContentList>(), None, None).default(Vec::new())
            .such_as(r#"["executables", "scripts"]"#);
        /// Whether entries of `type_rule` are compared with the type that a file's octets show. It counts beside the declared
        /// ones, so that another declaration hides nothing. Otherwise only the declared ones count.
        detect_types: bool = flag().default(true);
        /// What becomes of a file with a type that no entry fits. The generic type `application/octet-stream` counts only
        /// where no other type is known, and a part without a Content-Type is `text/plain`. A file inside another is scanned where no
        /// entry fits.
        types_unmatched: RuleAction = text::<RuleAction>().default(RuleAction::AvScan);
        /// What becomes of a file with a name that no entry fits. A file without a name is judged by its types alone, and one
        /// inside another is scanned where no entry fits.
        names_unmatched: RuleAction = text::<RuleAction>().default(RuleAction::AvScan);
        /// SHA-256 of forbidden files, 64 hexadecimal digits each. They are compared with every decoded part, and with every
        /// file inside another; of a mail that is attached as such, its parts are.
        blocked_hashes: Vec<FileHash> = list(text::<FileHash>(), Some(HASHES_MAX), None).default(Vec::new())
            .such_as(r#"["275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"]"#);
        /// Files with more of them, as `sha256sum` writes them: one in a line, and behind it what you like; `#` begins a
        /// comment. All proxy actions together may have 250,000. A reload reads them again.
        hash_files: Vec<PathBuf> = list(path("name a file"), Some(HASH_FILES_MAX), None).default(Vec::new())
            .such_as(r#"["/etc/postern/blocked.sha256"]"#);
        /// What becomes of a signed mail (`multipart/signed`) of which a part is removed.
        signed: SignedMail = text::<SignedMail>().default(SignedMail::Remove);
        /// The text in the place of what was removed, 300 characters at most. `%(reason)%` is why, `%(filename)%` the name of
        /// the file, `%(virus)%` the signature where there is one, `%(action)%` what was done; `%(recovery)%` is empty. Letters
        /// with accents are shown without them, because the text has to be the same in every charset.
        deny_message: Option<DenyMessage> = text::<DenyMessageText>()
            .unset("a sentence with the reason, in the language of `deny_language`", r#""Removed: %(filename)%. Ask IT, phone 4711. Reason: %(reason)%.""#);
        /// The language of `%(reason)%` and `%(action)%`, and of the text without `deny_message`.
        deny_language: DenyLanguage = text::<DenyLanguage>().default(DenyLanguage::En);
        /// What becomes of a file in which something was found beside what rules name.
        verdicts: VerdictSettings = section();
        /// Rules by file name. An exact name goes before patterns, whatever the order; of those of a kind, the first that
        /// fits counts. A name counts in every form in which a client may use it. Where names, types and hashes say
        /// different things of one file, the strictest counts: `deny`, then `remove`, then `av_scan`. So `allow` counts only
        /// where names and types both say so.
        name_rule: Vec<NameRule> = sections(NAME_PATTERNS_MAX);
        /// Rules by content type. An exact type goes before patterns, whatever the order; of those of a kind, the first
        /// that fits counts. A part may have several types, and the strictest action counts.
        type_rule: Vec<TypeRule> = sections(TYPE_PATTERNS_MAX);
        /// Rules by lists that Postern has. They count behind `name_rule` and `type_rule`, so that those make exceptions.
        list_rule: Vec<ListRule> = sections(LIST_RULES_MAX);
    }
}

settings! {
    /// One entry of `action.content.name_rule`.
    pub struct NameRule {
        /// The file name: `*` stands for any characters, `?` for one. Case does not count.
        pattern as "match": NamePattern = text::<NamePattern>()
            .required("write a file name such as \"*.exe\"", r#""*.exe""#);
        /// What becomes of such files.
        action: RuleAction = text::<RuleAction>()
            .required("write \"allow\", \"av_scan\", \"remove\" or \"deny\"", r#""remove""#);
    }
}

settings! {
    /// One entry of `action.content.type_rule`.
    pub struct TypeRule {
        /// The media type: `*` stands for any characters, `?` for one. Case does not count.
        pattern as "match": MediaTypePattern = text::<MediaTypePattern>()
            .required("write a media type such as \"image/*\"", r#""application/vnd.microsoft.portable-executable""#);
        /// What becomes of such files.
        action: RuleAction = text::<RuleAction>()
            .required("write \"allow\", \"av_scan\", \"remove\" or \"deny\"", r#""remove""#);
    }
}

settings! {
    /// One entry of `action.content.list_rule`.
    pub struct ListRule {
        /// The list.
        list: ContentList = text::<ContentList>().required("write a list such as \"executables\"", r#""executables""#);
        /// What becomes of files of its names and types.
        action: RuleAction = text::<RuleAction>()
            .required("write \"allow\", \"av_scan\", \"remove\" or \"deny\"", r#""remove""#);
    }
}

impl Default for VerdictSettings {
    fn default() -> Self {
        Self::stand_in()
    }
}

impl StandIn for NamePattern {
    fn stand_in() -> Self {
        Self(String::new())
    }
}

impl StandIn for RuleAction {
    fn stand_in() -> Self {
        Self::AvScan
    }
}

impl StandIn for ContentList {
    fn stand_in() -> Self {
        Self::Executables
    }
}

settings! {
    /// `[action.content.verdicts]`.
    pub struct VerdictSettings {
        /// A scanner knows the file as harmful. The EICAR test file is removed under `allow`, too.
        virus: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// The file's hash stands in `blocked_hashes` or `hash_files`.
        blocked_hash: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// An archive or a document that opens with a password only. Malware is sent so, because nobody on the way can look
        /// inside.
        encrypted_file: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// S/MIME or PGP: only the recipient can read it. Who uses it has keys of the sender's, and would lose every mail.
        encrypted_mail: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Allow);
        /// `message/partial`, a piece of a mail. Programs of today send none, and only the whole could be judged.
        partial_message: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// `message/external-body`, content that the reader fetches elsewhere, past this gateway.
        external_body: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// Mail that is built so that its parts cannot be told within bounds. Under `allow` it passes without having been
        /// judged, and header rules hold for its own header alone.
        mime_limits: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// An archive with more levels, files or octets than are judged, or one that grows out of all proportion. Under
        /// `allow` the rest passes without having been judged.
        archive_limits: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// An archive or a document that opens in part only, or not at all. Other programs may open more of it.
        broken_file: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// An archive of a kind that is not opened here.
        unknown_archive: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// A document with macros. Many honest ones have some; the scanner's rules know the harmful ones.
        r#macro as "macro": VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Allow);
        /// A document that loads a template or an object from elsewhere.
        external_reference: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Allow);
        /// A document with scripts, launch actions or embedded files.
        active_content: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Allow);
        /// HTML that builds a file in the reader's browser. Honest mail never does.
        smuggling: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
        /// A file that no judge could finish within its bounds, twice.
        cannot_scan: VerdictChoice = text::<VerdictChoice>().default(VerdictChoice::Remove);
    }
}

words! {
    /// What becomes of files that a rule fits.
    pub enum RuleAction as "action of a rule" {
        /// It passes, and neither scanners nor an opener look at it. Hashes and EICAR count all the same.
        Allow => "allow",
        /// It is scanned, and opened where it holds other files.
        AvScan => "av_scan",
        /// It is overwritten with the deny message; in an upload, the message is refused.
        Remove => "remove",
        /// It is overwritten, and with it every part of what was judged together. Where a client fetches single parts, each
        /// is judged without the others.
        Deny => "deny",
    }
    refuse "lock" | "quarantine" => not_yet();
}

words! {
    /// What becomes of a file in which something was found.
    pub enum VerdictChoice as "verdict" {
        /// It passes, and a record tells it.
        Allow => "allow",
        /// It is overwritten with the deny message; in an upload, the message is refused.
        Remove => "remove",
        /// It is overwritten, and with it every part of what was judged together.
        Deny => "deny",
    }
    refuse "lock" | "quarantine" => not_yet();
}

fn not_yet() -> Reason {
    Reason::unfit("there is no quarantine in this version", "use \"remove\" or \"deny\"")
}

words! {
    /// What becomes of a signed mail of which a part is removed.
    #[derive(Default)]
    pub enum SignedMail as "treatment of signed mail" {
        /// Only the part is overwritten. The signature no longer fits, and the mail client says so.
        Remove => "remove" default,
        /// Every part of the mail is overwritten. A client that fetches single parts gets the others.
        Deny => "deny",
    }
}

words! {
    /// Languages of deny messages.
    #[derive(Default)]
    pub enum DenyLanguage as "language" {
        /// English.
        En => "en" default,
        /// German.
        De => "de",
        /// French.
        Fr => "fr",
        /// Spanish.
        Es => "es",
        /// Italian.
        It => "it",
        /// Dutch.
        Nl => "nl",
    }
}

words! {
    /// Types of content that can be forbidden.
    pub enum ForbiddenType as "type of content" {
        /// Programs for any machine.
        Executable => "executable",
    }
}

words! {
    /// Lists of names and types.
    pub enum ContentList as "list" {
        /// Programs and what installs them: .exe .com .scr .pif .cpl .dll .drv .sys .ocx .msi .msp .mst .msix
        /// .msixbundle .appx .appxbundle .appinstaller .application .gadget .jar .class .apk .dex .elf .run .deb
        /// .rpm .pkg .app .command .xll .wll, and programs for any machine by their octets, scripts and shortcuts
        /// excepted.
        Executables => "executables",
        /// What an interpreter runs at a double click: .js .jse .vbs .vbe .wsf .wsh .wsc .sct .hta .bat .cmd .btm
        /// .ps1 .ps1xml .psm1 .psd1 .psc1 .py .pyc .pyw .pyz .pl .rb .sh .ksh .csh .lua .ahk .au3 .scpt
        /// .scptd .applescript .reg .inf .chm .diagcab, and files with an interpreter line by their octets.
        Scripts => "scripts",
        /// Documents whose names say that they have macros: .docm .dotm .xlsm .xltm .xlsb .xlam .xla .pptm .potm
        /// .ppsm .ppam .sldm .ade .adp .accde .accdr .mde .mda .mdw .slk .iqy.
        OfficeMacros => "office_macros",
        /// Images that a double click mounts: .iso .img .udf .vhd .vhdx .vmdk .dmg .wim .nrg .mdf, and such images by
        /// their octets.
        DiskImages => "disk_images",
        /// Links that run commands or open other places: .lnk .url .website .scf .desktop .webloc .library-ms
        /// .search-ms .searchconnector-ms .settingcontent-ms .rdp .theme .themepack .xnk .mcl, and Windows shortcuts by
        /// their octets.
        Shortcuts => "shortcuts",
        /// OneNote: .one .onepkg .onetoc .onetoc2, and OneNote files by their octets.
        OneNote => "onenote",
        /// Web pages as files, by their names alone, because the text of a mail may be HTML, too: .html .htm .shtml .shtm
        /// .xhtml .xht .mht .mhtml .svg .xsl .xslt.
        HtmlAttachments => "html_attachments",
        /// Archives of kinds that attackers choose because gateways do not open them: .ace .arj .lzh .lha .r00 .xxe
        /// .z .arc .alz .egg .lz .xar, and ACE, ARJ, LHA, compress, lzip, xar, ALZ and EGG files by their octets.
        RareArchives => "rare_archives",
    }
}
