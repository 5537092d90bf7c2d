//! Networks of a test's own, out of Linux' network namespaces: hosts, plain cables and switches between them, and
//! wires that are slow and lose what goes over them.
//!
//! The test itself runs in one more namespace, the *desk*, from which it reaches each host over a cable that no host
//! shares with another: so it can always ask, whatever the weather on the wires. All of it is gone with the [`Lab`], and
//! what a killed test left behind is removed by the next one.

mod namespaces;
mod wire;

use std::future::Future;
use std::sync::Arc;

use cairn_testkit::{NodeOptions, not_tested};

pub use namespaces::Refused;
use namespaces::{Namespace, ip};
pub use wire::{Direction, Weather, Wire};

/// How many threads a test in a network has.
const THREADS: usize = 4;

/// Namespaces and what connects them.
pub struct Lab {
    desk: Arc<Namespace>,
    hosts: usize,
    wires: usize,
}

/// A machine of its own, as far as the network is concerned.
pub struct Host {
    namespace: Arc<Namespace>,
    number: usize,
}

/// What a router does with the ports of those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// It keeps them, so that others can guess them: holes can be punched.
    Kept,
    /// It takes another one for each connection: they cannot.
    Random,
}

/// What several hosts are plugged into.
pub struct Switch {
    namespace: Namespace,
    plugs: usize,
}

/// Runs a test inside of a network of its own. Where this machine cannot have one, it says so and does nothing.
///
/// # Panics
/// When the test does, or a namespace cannot be made after all.
pub fn within<F>(what: &str, test: impl FnOnce(Lab) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    if let Err(refused) = namespaces::possible() {
        return not_tested(what, &refused.to_string());
    }
    namespaces::sweep();
    // A thread of its own, because it moves to another namespace and does not come back.
    let thread = std::thread::spawn(move || {
        let desk = Arc::new(Namespace::make("desk"));
        desk.enter();
        let entered = Arc::clone(&desk);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .on_thread_start(move || entered.enter())
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(test(Lab { desk, hosts: 0, wires: 0 }));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    /// One more host, which the test reaches and nobody else does.
    pub fn host(&mut self, name: &str) -> Host {
        self.hosts += 1;
        let number = self.hosts;
        let namespace = Arc::new(Namespace::make(name));
        let host = Host { namespace, number };
        cable(
            (&self.desk, &format!("to{number}"), &host.desk_address(1)),
            (&host.namespace, "desk", &host.desk_address(2)),
        );
        host
    }

    /// A slow or lossy connection between two hosts: 10.88.x.1 is the first, 10.88.x.2 the second, and x the number of the
    /// wire in this lab, from 1.
    pub fn wire(&mut self, one: &Host, other: &Host, weather: Weather) -> Wire {
        self.wires += 1;
        wire::lay(self.wires, one, other, weather)
    }

    /// A switch without anything plugged in.
    pub fn switch(&self, name: &str) -> Switch {
        let namespace = Namespace::make(name);
        namespace.ip("link add name switch type bridge");
        namespace.ip("link set dev switch up");
        Switch { namespace, plugs: 0 }
    }
}

impl Host {
    /// What starts a node on this host with the API for the desk alone.
    pub fn options(&self, name: &str) -> NodeOptions {
        let environment = vec![("CAIRN_FEDERATION__NAME".to_owned(), name.to_owned())];
        NodeOptions {
            environment,
            listen: Some(format!("10.77.{}.2:0", self.number)),
            launcher: ["ip", "netns", "exec", self.namespace.name()].map(str::to_owned).to_vec(),
            ..NodeOptions::default()
        }
    }

    /// A plain cable to another host, each end with a name and an address such as `10.1.0.1/24`.
    pub fn cable(&self, end: (&str, &str), other: (&Self, &str, &str)) {
        cable((&self.namespace, end.0, end.1), (&other.0.namespace, other.1, other.2));
    }

    /// Plugs this host into a switch.
    pub fn plug(&self, switch: &mut Switch, device: &str, address: &str) {
        switch.plugs += 1;
        let plug = format!("plug{}", switch.plugs);
        cable((&switch.namespace, &plug, ""), (&self.namespace, device, address));
        switch.namespace.ip(&format!("link set dev {plug} master switch"));
    }

    /// Sends what is for nobody near to another host.
    pub fn route_by(&self, gateway: &str) {
        self.namespace.ip(&format!("route add default via {gateway}"));
    }

    /// Makes this host a router that hides what is behind it, as one at home does: connections from inside leave with its own
    /// address on `outside`, and nothing comes in that was not asked for.
    ///
    /// # Errors
    /// When the machine has no `nft`, or a kernel without it.
    pub fn hide_behind(&self, outside: &str, ports: Ports) -> Result<(), Refused> {
        let how = match ports {
            Ports::Kept => "",
            Ports::Random => "fully-random",
        };
        let guard = format!(
            "policy accept; iifname \"{outside}\" ct state established,related accept; iifname \"{outside}\" drop;"
        );
        let rules = format!(
            "table ip home {{
                chain out {{ type nat hook postrouting priority 100; oifname \"{outside}\" masquerade {how}; }}
                chain pass {{ type filter hook forward priority 0; {guard} }}
                chain come {{ type filter hook input priority 0; {guard} }}
            }}"
        );
        self.namespace.run("nft", &[&rules])?;
        self.namespace.run("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"])
    }

    /// Bytes that a device of this host has received and sent, with the headers of Ethernet.
    pub fn bytes(&self, device: &str) -> (u64, u64) {
        self.namespace.bytes(device)
    }

    fn desk_address(&self, end: u8) -> String {
        format!("10.77.{}.{end}/24", self.number)
    }
}

/// Lays a cable between two namespaces. An end without an address has none.
fn cable(one: (&Namespace, &str, &str), other: (&Namespace, &str, &str)) {
    let ((here, device, _), (there, other_device, _)) = (one, other);
    let (here_name, there_name) = (here.name(), there.name());
    ip(&format!("link add name {device} netns {here_name} type veth peer name {other_device} netns {there_name}"));
    for (namespace, device, address) in [one, other] {
        if !address.is_empty() {
            namespace.ip(&format!("addr add {address} dev {device}"));
        }
        namespace.ip(&format!("link set dev {device} up"));
    }
}
