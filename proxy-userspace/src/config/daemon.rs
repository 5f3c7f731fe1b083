use std::path::PathBuf;

use super::kinds::{flag, number, path, socket, text};
use super::setting::{settings, words};

/// `sun_path` without its NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The numbers of users and groups (chown(2): the one above means "leave it").
pub(super) const ID_MAX: i64 = 4_294_967_294;
pub(super) const ID_BOUNDS: &str = "0 is root, and 4294967295 is no user";
/// The worker's number of user and group where neither the file nor the system names one. systemd leaves 60578 to 61183 to
/// nobody (its UIDS-GIDS document), and so do Debian's and Fedora's lists.
pub(crate) const WORKER_ID_DEFAULT: u32 = 60993;
/// The same of the signer.
pub(crate) const SIGNER_ID_DEFAULT: u32 = 60994;
/// The same of the helper.
pub(crate) const HELPER_ID_DEFAULT: u32 = 60995;

/// The same of the judges. 60996 is the command for alarms.
pub(crate) const JUDGE_ID_DEFAULT: u32 = 60997;

settings! {
    /// `[records]`.
    #[derive(Copy)]
    pub struct RecordLines {
        /// Whether a shorter line is written when a session begins, too, with the same `event.id` as its record. Of long
        /// sessions, and of those that a kill of Postern ends, nothing would be known otherwise.
        start: bool = flag().default(true);
        /// In which form records are written on stdout.
        format: RecordFormat = text::<RecordFormat>().default(RecordFormat::Auto);
        /// Whether each part that is judged under `inspect = "full"` has a line, with its name, type, size and hash, and
        /// not only each that is forbidden: many lines, for those who must prove what came.
        clean_verdicts: bool = flag().default(false);
    }
}

words! {
    /// In which form records are written.
    pub enum RecordFormat as "form of records" {
        /// In the journal's own fields where stdout is the journal (`StandardOutput=journal` of a systemd unit), as text where
        /// it is a terminal, and otherwise as JSON.
        Auto => "auto",
        /// As JSON, one object a line, whatever stdout is.
        Json => "json",
    }
}

settings! {
    /// `[state]`.
    pub struct State {
        /// Where Postern keeps, under `inspect = "full"`, what it remembers of mail that it judged (256 MiB at most; no
        /// names stand in it), and the spool (`limits.spool`). It is made with mode 0700 where it is missing; nobody but
        /// root may write there. What it holds may be removed while Postern does not run: mail is judged again then.
        /// Changes with a restart only.
        directory: PathBuf = path("name a directory").default(PathBuf::from("/var/lib/postern"));
    }
}

settings! {
    /// `[admin]`.
    pub struct Admin {
        /// The Unix socket that `postern status` and `postern reload` ask; only root may (mode 0600). Changes with a restart only.
        socket: PathBuf = socket(SOCKET_PATH_BYTES_MAX).default(PathBuf::from("/run/postern/postern.sock"));
    }
}

settings! {
    /// `[process]`: the number of user and group that a process runs as.
    #[derive(Copy, Default)]
    pub struct Processes {
        /// Number of the worker's user and group, which need no file.
        worker as "worker_id": Option<u32> = number((1, ID_MAX), "", ID_BOUNDS)
            .unset("the system's user `postern` where it exists, else 60993", "60993");
        /// Number of the signer's user and group, which need no file.
        signer as "signer_id": Option<u32> = number((1, ID_MAX), "", ID_BOUNDS)
            .unset("the system's user `postern-signer` where it exists, else 60994", "60994");
        /// Number of the helper's user and group, which need no file.
        helper as "helper_id": Option<u32> = number((1, ID_MAX), "", ID_BOUNDS)
            .unset("the system's user `postern-helper` where it exists, else 60995", "60995");
        /// Number of the judges' user and group, which need no file.
        judge as "judge_id": Option<u32> = number((1, ID_MAX), "", ID_BOUNDS)
            .unset("the system's user `postern-judge` where it exists, else 60997", "60997");
    }
}
