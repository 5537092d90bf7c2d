//! The gateway, driven by clients that others wrote: those of `tests/clients`, installed from their registries.
//!
//! They are installed once, below the target folder. Where that cannot be done, the test says so and passes.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::{ExpectedRevision, NewAppend, NewEvent, SharedStore, SqliteStore, StreamAppend};
use cairn_gateway::{Authority, Caller, Credentials, Gateway, Level, Options, Refusal, Tls};
use cairn_testkit::not_tested;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;
use uuid::Uuid;

/// How long a script may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// One installs at a time: two tests of one language would write the same folder.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// Lets in whoever brings the owner's token, and those without any where there is no TLS: over plain connections these
/// clients send none.
struct Doorman {
    needs_token: bool,
}

impl Authority for Doorman {
    fn admit(&self, credentials: Option<&Credentials>) -> Result<Caller, Refusal> {
        match credentials.map(Credentials::token) {
            Some("owner") => {}
            None if !self.needs_token => {}
            _ => return Err(Refusal::Unauthenticated("send a token".into())),
        }
        let ceiling = Level::new(1).expect("a level");
        Ok(Caller { principal: Uuid::from_u128(1), ceiling, origin: "user:owner".into() })
    }
}

struct Scene {
    port: u16,
    _folder: TempDir,
}

impl Scene {
    /// A gateway to a log that holds a memory.
    async fn begin(tls: Option<Tls>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: SharedStore =
            Arc::new(SqliteStore::open(folder.path().join("log.db"), Uuid::now_v7()).expect("opens"));
        let event = NewEvent {
            id: Uuid::now_v7(),
            event_type: "memory.created".into(),
            schema_version: 1,
            data: r#"{"kind":"note"}"#.into(),
            metadata: r#"{"truth":1}"#.into(),
        };
        let (stream, expected) = ("memory-1".into(), ExpectedRevision::NoStream);
        let streams = vec![StreamAppend { stream, expected, events: vec![event] }];
        store.append(NewAppend { streams, tracking: None }).await.expect("appended");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let doorman = Doorman { needs_token: tls.is_some() };
        let options = Options { advertised: ("localhost".into(), port), tls };
        let gateway = Gateway::new(store, Arc::new(doorman), options);
        tokio::spawn(gateway.serve(listener, std::future::pending()));
        Self { port, _folder: folder }
    }
}

fn scripts(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(language)
}

fn cache(language: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(language)
}

async fn run(command: &mut Command) -> Result<Output, String> {
    let running = command.kill_on_drop(true).output();
    match tokio::time::timeout(PATIENCE, running).await {
        Err(_) => Err(format!("{command:?} takes longer than {PATIENCE:?}")),
        Ok(Err(error)) => Err(format!("{command:?}: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(output),
        Ok(Ok(output)) => Err(format!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Whether what is installed is what is asked for now.
fn is_installed(folder: &Path, wanted: &Path) -> bool {
    let read = |path: &Path| std::fs::read(path).ok();
    let installed = read(&folder.join("installed"));
    installed.is_some() && installed == read(wanted)
}

/// The interpreter that has the client.
async fn python() -> Result<PathBuf, String> {
    let _one_at_a_time = INSTALLING.lock().await;
    let (folder, wanted) = (cache("python"), scripts("python").join("requirements.txt"));
    let interpreter = folder.join("bin/python");
    if !is_installed(&folder, &wanted) {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        run(Command::new(&interpreter).args(["-m", "pip", "install", "-q", "-r"]).arg(&wanted)).await?;
        std::fs::copy(&wanted, folder.join("installed")).map_err(|error| error.to_string())?;
    }
    Ok(interpreter)
}

/// The folder that has the client and the script.
async fn node() -> Result<PathBuf, String> {
    let _one_at_a_time = INSTALLING.lock().await;
    let (folder, wanted) = (cache("node"), scripts("node").join("package.json"));
    let copy = |from: &Path, to: &str| std::fs::copy(from, folder.join(to)).map_err(|error| error.to_string());
    if !is_installed(&folder, &wanted) {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        copy(&wanted, "package.json")?;
        let mut npm = Command::new("npm");
        run(npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder)).await?;
        copy(&wanted, "installed")?;
    }
    copy(&scripts("node").join("gateway.js"), "gateway.js")?;
    Ok(folder)
}

#[tokio::test]
async fn the_python_client_works() {
    let python = match python().await {
        Ok(python) => python,
        Err(reason) => return not_tested("the gateway with the Python client", &reason),
    };
    let scene = Scene::begin(None).await;
    let uri = format!("kdb://127.0.0.1:{}?Tls=false", scene.port);
    let script = scripts("python").join("gateway.py");
    run(Command::new(python).arg(script).arg(uri)).await.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn the_node_client_works() {
    let folder = match node().await {
        Ok(folder) => folder,
        Err(reason) => return not_tested("the gateway with the Node.js client", &reason),
    };
    let scene = Scene::begin(None).await;
    let uri = format!("kurrentdb://127.0.0.1:{}?tls=false", scene.port);
    let ran = run(Command::new("node").arg("gateway.js").arg(uri).current_dir(folder)).await;
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A certificate for this test and no other, made by the program that every system has for it. It rests on one of an
/// authority, `ca.pem`: some clients take no certificate that vouches for itself.
async fn certificate(folder: &Path) -> Result<Tls, String> {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").map_err(|error| error.to_string())?;
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    ] {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder)).await?;
    }
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| error.to_string());
    Ok(Tls { certificate: read("cert.pem")?, key: read("key.pem")? })
}

#[tokio::test]
async fn both_clients_show_their_token_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = match certificate(folder.path()).await {
        Ok(tls) => tls,
        Err(reason) => return not_tested("the gateway over TLS", &reason),
    };
    let scene = Scene::begin(Some(tls)).await;
    let authority = folder.path().join("ca.pem");
    match python().await {
        Ok(python) => {
            let uri = |token: &str| format!("kdb://anyone:{token}@localhost:{}", scene.port);
            let script = scripts("python").join("gateway.py");
            let script = |token| {
                let mut command = Command::new(&python);
                command.arg(&script).arg(uri(token)).arg(&authority);
                command
            };
            run(&mut script("owner")).await.unwrap_or_else(|failure| panic!("{failure}"));
            let refused = run(&mut script("guessed")).await.expect_err("not let in");
            assert!(refused.contains("Unauthenticated"), "{refused}");
        }
        Err(reason) => not_tested("the gateway over TLS with the Python client", &reason),
    }
    match node().await {
        Ok(installed) => {
            let uri = |token: &str| {
                format!("kurrentdb://anyone:{token}@localhost:{}?tlsCAFile={}", scene.port, authority.display())
            };
            let mut command = Command::new("node");
            command.arg("gateway.js").arg(uri("owner")).current_dir(&installed);
            run(&mut command).await.unwrap_or_else(|failure| panic!("{failure}"));
            let mut command = Command::new("node");
            let refused = run(command.arg("gateway.js").arg(uri("guessed")).current_dir(&installed)).await;
            assert!(refused.is_err(), "not let in");
        }
        Err(reason) => not_tested("the gateway over TLS with the Node.js client", &reason),
    }
}
