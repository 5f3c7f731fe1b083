//! One lab with Postern that judges everything and the three servers behind it, shared by the tests that run at the
//! same time: putting it up takes longer than most of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::client::Session;
use crate::corpus::{Sample, hostile};
use crate::fetched::Reply;
use crate::mail_server::{MailServers, Path, Server};
use crate::postern::Policy;
use crate::scene::Scene;

/// What is forbidden.
pub const CONTENT: &str = "[action.content]\nnames = [\"*.exe\"]\ntypes = [\"executable\"]";
/// The INTERNALDATE of what the lab puts into mailboxes.
const DATE: &str = "\"24-Nov-2026 08:00:00 +0000\" ";

/// Those that are up.
static SHARED: Mutex<Weak<Bench>> = Mutex::new(Weak::new());

/// The lab, as long as somebody has it.
pub struct Bench {
    scene: Option<Arc<Scene>>,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<Result<()>>>,
    folders: AtomicU32,
    exhibits: Mutex<BTreeMap<Server, Arc<Exhibit>>>,
}

/// A folder with every hostile message, as it is and as it arrives.
#[derive(Debug)]
pub struct Exhibit {
    /// The folder's name at its server.
    pub folder: String,
    /// The messages: the first one has number and UID 1.
    pub samples: Vec<Sample>,
    /// What the server serves as each of them.
    pub kept: Vec<Vec<u8>>,
    /// What arrives behind Postern.
    pub arrived: Vec<Vec<u8>>,
}

/// A configuration that judges everything.
#[must_use]
pub fn policy() -> Policy {
    Policy::new().action("inspect = \"full\"").table(CONTENT)
}

impl Bench {
    /// The one that is up, or a new one.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn get() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bench) = shared.upgrade() {
            return Ok(bench);
        }
        let bench = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&bench);
        Ok(bench)
    }

    /// Processes end with the thread that started them, and a test's thread ends with the test: another thread keeps
    /// them.
    fn new() -> Result<Self> {
        let (ready, came) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let keeper = thread::spawn(move || {
            let scene = Arc::new(Scene::new(&policy())?);
            let servers = MailServers::start(&scene)?;
            let postern = scene.start()?;
            let _ = ready.send(Arc::clone(&scene));
            drop(ready);
            let _ = stopped.recv();
            postern.stop()?;
            drop(servers);
            Arc::try_unwrap(scene).map_err(|_| anyhow!("somebody still has the lab"))?.finish()
        });
        let Ok(scene) = came.recv() else {
            let ended = keeper.join().map_err(|_| anyhow!("the lab's keeper panicked"))?;
            return Err(ended.err().unwrap_or_else(|| anyhow!("the lab did not come up")));
        };
        Ok(Self {
            scene: Some(scene),
            stop: Some(stop),
            keeper: Some(keeper),
            folders: AtomicU32::new(0),
            exhibits: Mutex::default(),
        })
    }

    /// The lab itself.
    ///
    /// # Errors
    /// Never, while it is up.
    pub fn scene(&self) -> Result<&Scene> {
        self.scene.as_deref().context("the lab is down")
    }

    /// A session, logged in.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn session(&self, server: Server, path: Path) -> Result<Session> {
        self.scene()?.mail(server, path)
    }

    /// A session in this folder.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn inside(&self, server: Server, path: Path, folder: &str) -> Result<Session> {
        let mut session = self.session(server, path)?;
        session.exchange(&format!("SELECT {folder}"))?.ok()?;
        Ok(session)
    }

    /// A new folder with these messages in it, put there behind Postern's back.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn folder(&self, server: Server, samples: &[Sample]) -> Result<String> {
        let folder = server.folder(&format!("Lab{}", self.folders.fetch_add(1, Ordering::Relaxed)));
        let mut session = self.session(server, Path::Direct)?;
        session.exchange(&format!("CREATE {folder}"))?.ok()?;
        for sample in samples {
            let reply = session.upload(&folder, DATE, &sample.octets)?;
            ensure!(reply.is_ok(), "{server:?} refused {}: {}", sample.name, reply.tagged);
        }
        Ok(folder)
    }

    /// The folder of everything hostile, made when it is first asked for.
    ///
    /// # Errors
    /// When it cannot be filled or read.
    pub fn exhibit(&self, server: Server) -> Result<Arc<Exhibit>> {
        let mut exhibits = self.exhibits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exhibit) = exhibits.get(&server) {
            return Ok(Arc::clone(exhibit));
        }
        let samples = hostile();
        let folder = self.folder(server, &samples)?;
        let kept = whole(&mut self.inside(server, Path::Direct, &folder)?, samples.len())?;
        let arrived = whole(&mut self.inside(server, Path::Through, &folder)?, samples.len())?;
        let exhibit = Arc::new(Exhibit { folder, samples, kept, arrived });
        exhibits.insert(server, Arc::clone(&exhibit));
        Ok(exhibit)
    }
}

/// Every message of the folder.
///
/// # Errors
/// When there are not so many.
pub fn whole(session: &mut Session, count: usize) -> Result<Vec<Vec<u8>>> {
    let reply: Reply = session.exchange("UID FETCH 1:* (BODY.PEEK[])")?.ok()?;
    let octets = reply.octets()?;
    ensure!(octets.len() == count, "{} of {count} messages came", octets.len());
    Ok(octets)
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.scene.take());
        drop(self.stop.take());
        let ended = self.keeper.take().map(JoinHandle::join);
        let said = match ended {
            Some(Ok(Err(error))) => format!("{error:#}"),
            Some(Err(_)) => "it panicked".to_owned(),
            Some(Ok(Ok(()))) | None => return,
        };
        assert!(thread::panicking(), "the lab did not end as it should: {said}");
        eprintln!("the lab did not end as it should: {said}");
    }
}
