//! Events as they stand in the log: what can be read says the same when it is written and read again.
#![no_main]

use cairn_domain::event::{Event, WIRE};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (event_type, current) in WIRE {
        for version in 1..=*current {
            if let Ok(event) = Event::decode(event_type, version, data) {
                let again = Event::decode(event.event_type(), event.schema_version(), &event.data());
                assert_eq!(again.expect("its own data"), event);
            }
        }
    }
});
