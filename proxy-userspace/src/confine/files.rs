use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, Scope,
};

use super::Role;

/// The newest interface that the list of rights below was written for. Older kernels deny what they know.
const ABI_NEWEST: ABI = ABI::V10;

/// Deny every file, and by newer kernels more; the words say what is denied. Without Landlock a process goes on: its
/// user may open no more than anybody, and seccomp lets it open nothing.
/// The helper may connect to these ports.
pub(super) fn close(role: Role, ports: &[u16]) -> String {
    match restrict(role, ports) {
        Ok(LandlockStatus::Available { effective_abi, .. }) => denied(role, ports, effective_abi),
        Ok(LandlockStatus::NotEnabled) => {
            "none: this kernel has Landlock, but was not started with it (lsm=)".to_owned()
        }
        Ok(LandlockStatus::NotImplemented) => "none: this kernel has no Landlock".to_owned(),
        Err(error) => format!("none: {error}"),
    }
}

/// All rights are handled and none is granted, but the helper's ports. What is open stays open.
fn restrict(role: Role, ports: &[u16]) -> Result<LandlockStatus, RulesetError> {
    let files = Ruleset::default().handle_access(AccessFs::from_all(ABI_NEWEST))?;
    let ruleset = match role {
        // The worker connects and binds; its ports are anybody's.
        Role::Worker => files.handle_access(AccessNet::BindUdp | AccessNet::ConnectSendUdp)?,
        Role::Signer | Role::Judge => files.handle_access(AccessNet::from_all(ABI_NEWEST))?,
        // It asks name servers by UDP.
        Role::Helper => files.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?,
    };
    let mut ruleset = ruleset.scope(Scope::from_all(ABI_NEWEST))?.create()?;
    if role == Role::Helper {
        for port in ports {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(ruleset.restrict_self()?.landlock)
}

/// What the kernel with this interface denies.
fn denied(role: Role, ports: &[u16], abi: ABI) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    let tcp = match role {
        Role::Worker => String::new(),
        Role::Signer | Role::Judge => "TCP".to_owned(),
        Role::Helper => format!("TCP but to port {}", ports.join(" and ")),
    };
    let denied = [
        (ABI::V1, "files"),
        (ABI::V4, tcp.as_str()),
        (ABI::V6, "foreign signals and abstract sockets"),
        (ABI::V10, if role == Role::Helper { "" } else { "UDP" }),
    ];
    let words = denied.iter().filter(|(since, word)| *since <= abi && !word.is_empty());
    let words: Vec<_> = words.map(|(_, word)| *word).collect();
    format!("{}, ABI {abi}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use super::*;

    /// What a thread may do under Landlock alone: it and what it starts are denied, the other tests are not.
    fn under<T: Send>(role: Role, work: impl FnOnce() -> T + Send) -> (String, T) {
        thread::scope(|scope| scope.spawn(|| (close(role, &[80]), work())).join().unwrap())
    }

    #[test]
    fn landlock_alone_denies_what_its_words_say() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = SocketAddr::from_abstract_name(format!("postern-{}", std::process::id())).unwrap();
        let _unix = UnixListener::bind_addr(&name).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("new");
        for role in [Role::Worker, Role::Signer, Role::Helper, Role::Judge] {
            let (words, denied) = under(role, || {
                let denied = |error: Option<ErrorKind>| error == Some(ErrorKind::PermissionDenied);
                let files = [
                    std::fs::read("/etc/passwd").err(),
                    std::fs::read_dir("/root").err(),
                    std::fs::write(&new, "x").err(),
                    std::process::Command::new("/bin/true").spawn().err(),
                ];
                let tcp = [TcpStream::connect(address).err(), TcpListener::bind("127.0.0.1:0").err()];
                (
                    files.map(|error| denied(error.map(|error| error.kind()))),
                    tcp.map(|error| denied(error.map(|error| error.kind()))),
                    denied(UnixStream::connect_addr(&name).err().map(|error| error.kind())),
                )
            });
            let has = !words.starts_with("none: ");
            assert_eq!(denied.0, [has; 4], "{words}");
            assert_eq!(denied.1, [words.contains("TCP"); 2], "{words}");
            assert_eq!(denied.2, words.contains("abstract sockets"), "{words}");
            assert!(!(words.contains("TCP") && role == Role::Worker), "{words}");
        }
    }

    #[test]
    fn the_words_name_what_an_older_kernel_does_not_deny() {
        assert_eq!(denied(Role::Signer, &[], ABI::V2), "files, ABI 2");
        assert_eq!(denied(Role::Signer, &[], ABI::V5), "files, TCP, ABI 5");
        assert_eq!(denied(Role::Worker, &[], ABI::V5), "files, ABI 5");
        assert_eq!(denied(Role::Helper, &[80], ABI::V5), "files, TCP but to port 80, ABI 5");
        assert_eq!(denied(Role::Helper, &[80, 443], ABI::V5), "files, TCP but to port 80 and 443, ABI 5");
        assert_eq!(denied(Role::Worker, &[], ABI::V7), "files, foreign signals and abstract sockets, ABI 7");
        assert_eq!(
            denied(Role::Signer, &[], ABI::V10),
            "files, TCP, foreign signals and abstract sockets, UDP, ABI 10"
        );
    }
}
