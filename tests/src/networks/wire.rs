//! A wire with weather. Kernels often come without `netem`, so this does it by hand: each host has a VXLAN device, which
//! wraps whole packets into datagrams, and threads at the desk pass these on to the other host: later, or never.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_testkit::Seed;
use rand::Rng;

use super::Host;

/// The port of VXLAN.
const PORT: u16 = 4789;
/// Where the IP packet begins, behind the headers of VXLAN and Ethernet.
const IP: usize = 8 + 14;
/// The protocols that have a checksum over what they carry, by their numbers.
const TCP: u8 = 6;
/// See [`TCP`].
const UDP: u8 = 17;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// How many packets are on their way in one direction at most; more are lost.
const ON_THE_WAY: usize = 20_000;
/// How often a thread looks whether the wire is gone.
const LOOK: Duration = Duration::from_millis(100);

/// What happens to packets, in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    /// How long a packet takes.
    pub delay: Duration,
    /// The share of packets that is lost, from 0 to 1.
    pub loss: f64,
    /// Whether all are lost.
    pub cut: bool,
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first host to the second.
    There,
    /// From the second host to the first.
    Back,
}

/// A wire between two hosts. Dropping it ends what passes packets on.
pub struct Wire {
    number: usize,
    weather: Arc<Mutex<Weather>>,
    passed: [Arc<AtomicU64>; 2],
    gone: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct End {
    socket: UdpSocket,
    host: String,
}

impl Wire {
    /// Changes the weather for packets that come from now on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// The address of one end: 1 is the first host's, 2 the second's.
    pub fn address(&self, end: u8) -> String {
        format!("10.88.{}.{end}", self.number)
    }

    /// Bytes that arrived, with the headers of Ethernet and VXLAN.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.passed[direction as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Must be called at the desk.
pub(super) fn lay(number: usize, one: &Host, other: &Host, weather: Weather) -> Wire {
    let ends = [(one, 1), (other, 2)].map(|(host, end)| {
        attach(host, number, end);
        let socket = UdpSocket::bind(format!("10.77.{}.1:{PORT}", host.number)).expect("the desk's end is free");
        socket.set_read_timeout(Some(LOOK)).expect("a time above zero");
        End { socket, host: format!("10.77.{}.2:{PORT}", host.number) }
    });
    let mut wire = Wire {
        number,
        weather: Arc::new(Mutex::new(weather)),
        passed: Default::default(),
        gone: Arc::default(),
        threads: Vec::new(),
    };
    let seed = Seed::take();
    for direction in [Direction::There, Direction::Back] {
        let (from, to) = match direction {
            Direction::There => (&ends[0], &ends[1]),
            Direction::Back => (&ends[1], &ends[0]),
        };
        wire.pass_on(direction, from, to, seed.0.wrapping_add(direction as u64));
    }
    wire
}

/// One wire for each host: the kernel has one port for VXLAN.
fn attach(host: &Host, number: usize, end: u8) {
    let desk = format!("local 10.77.{0}.2 remote 10.77.{0}.1", host.number);
    host.namespace.ip(&format!("link add name wire type vxlan id 1 {desk} dstport {PORT} dev desk nolearning"));
    host.namespace.ip(&format!("addr add 10.88.{number}.{end}/24 dev wire"));
    // Else the kernel hands over many packets as a single one, which would be lost or late together.
    host.namespace.ip("link set dev wire gso_max_segs 1");
    host.namespace.ip("link set dev wire up");
}

impl Wire {
    fn pass_on(&mut self, direction: Direction, from: &End, to: &End, seed: u64) {
        let (sender, receiver) = sync_channel(ON_THE_WAY);
        let taken = from.socket.try_clone().expect("a second handle");
        let (weather, gone) = (Arc::clone(&self.weather), Arc::clone(&self.gone));
        self.threads.push(std::thread::spawn(move || take(&taken, &sender, &weather, &gone, Seed(seed))));
        let (given, host) = (to.socket.try_clone().expect("a second handle"), to.host.clone());
        let passed = Arc::clone(&self.passed[direction as usize]);
        self.threads.push(std::thread::spawn(move || give(&given, &host, &receiver, &passed)));
    }
}

type Packet = (Instant, Vec<u8>);

fn take(socket: &UdpSocket, sender: &SyncSender<Packet>, weather: &Mutex<Weather>, gone: &AtomicBool, seed: Seed) {
    let mut rng = seed.rng();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while !gone.load(Ordering::Relaxed) {
        // Nothing came for a while, or the host's end is not up yet.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let now = *weather.lock().unwrap_or_else(PoisonError::into_inner);
        if now.cut || rng.random_bool(now.loss) {
            continue;
        }
        let mut packet = buffer[..length].to_vec();
        fill_in_checksum(&mut packet);
        // A full wire loses packets, as others do.
        let _ = sender.try_send((Instant::now() + now.delay, packet));
    }
}

/// Kernels leave the checksum of TCP and UDP to whoever puts a packet on a real wire. Here that is us.
fn fill_in_checksum(packet: &mut [u8]) {
    let is_ipv4 = packet.get(IP - 2..IP) == Some(&[8, 0]);
    let Some(packet) = packet.get_mut(IP..).filter(|packet| is_ipv4 && packet.len() >= 20) else { return };
    let header = usize::from(packet[0] & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let protocol = packet[9];
    let at = match protocol {
        TCP => header + 16,
        UDP => header + 6,
        _ => return,
    };
    let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    if is_fragment || packet.len() < length || length < at + 2 {
        return;
    }
    packet[at..at + 2].fill(0);
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let carried = u32::from(protocol) + (length - header) as u32;
    let mut sum = words(&packet[12..20]) + carried + words(&packet[header..length]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // To UDP, zero means that there is none.
    let checksum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

fn give(socket: &UdpSocket, host: &str, receiver: &Receiver<Packet>, passed: &AtomicU64) {
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok((at, packet)) => {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                // What cannot be delivered is lost.
                if let Ok(sent) = socket.send_to(&packet, host) {
                    passed.fetch_add(sent as u64, Ordering::Relaxed);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_what_udp_wants_and_other_packets_are_left_alone() {
        let ip = [0x45, 0, 0, 30, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let udp = [0, 53, 0, 53, 0, 10, 0xaa, 0xaa, b'h', b'i'];
        let mut packet = vec![0; IP - 2];
        packet.extend([8, 0].into_iter().chain(ip).chain(udp));
        fill_in_checksum(&mut packet);
        let sum = 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + 17 + 10 + 53 + 53 + 10 + 0x6869_u32;
        assert_eq!(packet[IP + 26..IP + 28], (!(sum as u16)).to_be_bytes());
        let other = vec![7; 40];
        let mut same = other.clone();
        fill_in_checksum(&mut same);
        assert_eq!(same, other);
    }
}
