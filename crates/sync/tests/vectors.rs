//! The test vectors of `docs/federation.md`: what another program must make and read byte by byte. They never change under one version.

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::event::{FieldClaimed, MemoryEvent};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::truth::Truth;
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::chain_of;
use cairn_sync::control::Control;
use cairn_sync::entry::{Entry, EntryKind, Header};
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash};
use cairn_sync::shared::{SharedEvent, shared_name};
use cairn_sync::succession::{BrainSecret, Succession};
use cairn_sync::wire::{Batch, Frame, Head, Receipt};
use ed25519_dalek::SigningKey;
use uuid::Uuid;

/// The manual, with its line breaks taken out of what is broken over several lines.
fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/federation.md");
    let text = std::fs::read_to_string(path).expect("the manual");
    text.split_whitespace().collect()
}

fn says(name: &str, bytes: &[u8]) {
    let wanted = format!("{name}={}", hex::encode(bytes));
    assert!(manual().contains(&wanted), "docs/federation.md should say\n{name} = {}", hex::encode(bytes));
}

#[test]
fn the_manual_has_the_bytes_that_this_program_makes() {
    let (brain, device) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let certificate = Certificate::make(&brain, DeviceKey::of(&device), Epoch([3; 16]), 1_790_000_000_000);
    says("certificate", &certificate.to_bytes());
    let header = |number, previous, space, kind| Header {
        space,
        author: BrainKey::of(&brain),
        epoch: Epoch([3; 16]),
        number,
        previous,
        grant: Hash::NONE,
        at: Hlc { millis: 1_790_000_000_000, counter: 7 },
        truth: Truth::User,
        kind,
        memory: MemoryId::new(Uuid::nil()),
        preceding: 0,
        following: 0,
        payload_bytes: 0,
        payload: Hash::NONE,
    };
    let created = Control::SpaceCreated { name: "Garden".into() }.to_bytes();
    let first =
        Entry::sign(header(1, Hash::NONE, None, EntryKind::Control), created.into(), &device).expect("small");
    says("control_payload", first.payload().expect("it is there"));
    says("control_header", &first.header().to_bytes());
    says("control_signature", first.signature());
    says("space", first.space().bytes());
    let memory = MemoryId::new(Uuid::from_u128(0x0192_0b5e_7c1a_7d2e_9d3f_4a5b_6c7d_8e9f));
    let id = EventId::new(Uuid::from_u128(0x019a_0b5e_7c1a_7d2e_9d3f_4a5b_6c7d_8e9f));
    let claimed =
        FieldClaimed { field: FieldName::title(), value: "Tomatoes".into(), supersedes: vec![], accepts: None };
    let shared = SharedEvent::of(id, MemoryEvent::FieldClaimed(claimed)).expect("it is shared");
    let payload: Bytes = shared.to_bytes().expect("small");
    says("claim_payload", &payload);
    let about = Header { memory, ..header(1, Hash::NONE, Some(first.space()), EntryKind::Claim) };
    let claim = Entry::sign(about, payload, &device).expect("small");
    says("claim_header", &claim.header().to_bytes());
    says("claim_signature", claim.signature());
    says("shared_name", shared_name(BrainKey::of(&brain), memory, id).uuid().as_bytes());
    let chain = chain_of(&claim);
    says("chain_tag", &chain.tag().0);
    let (batch, _) = Batch::of(chain, std::slice::from_ref(&claim), Some(certificate), true);
    says("batch_frame", &Frame::Batch(batch).to_bytes());
    let head = Head { chain: chain.tag(), number: 1, hash: claim.hash().tag() };
    let receipt = Receipt::sign(claim.space(), vec![head], 1_790_000_000_500, &device);
    says("receipt_signature", &receipt.signature);
    let next = SigningKey::from_bytes(&[4; 32]);
    let prepared = Succession::first(BrainKey::of(&brain)).prepare(&brain, BrainKey::of(&next)).expect("prepared");
    let changed = prepared.change(&next).expect("changed");
    says("succession", &changed.to_bytes());
    let later = BrainSecret::of(next, changed).expect("it signs now");
    let certificate = later.certify(DeviceKey::of(&device), Epoch([5; 16]), 1_790_000_001_000);
    says("later_certificate", &certificate.to_bytes());
    says("roster", &later.list(7, vec![DeviceKey::of(&device)]).to_bytes());
}
