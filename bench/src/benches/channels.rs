//! One channel of 10,000 subscribers against 10,000 channels of one: what a delivery costs when every one of them
//! needs a publish of its own. The same connections have both, so that nothing else differs.

use super::{Rig, Stand, alternate, rows_of};
use crate::client::{Channels, Crowd, To};
use crate::report::Row;

const UNIT: &str = "deliveries per CPU second";
/// Two files each, here and in the server, stay below the usual hard limit of 20,000.
const SUBSCRIBERS: usize = 10_000;
/// Of the payload on the wire.
const BYTES: usize = 128;

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, _) = rig.build(&[])?;
    let count = rig.size(SUBSCRIBERS);
    let server = rig.start(&gateway)?;
    let mut crowd = Crowd::gather(&server, count, Channels::SharedAndOwn)?;
    let each: Vec<To> = (0..count).map(To::Own).collect();
    let own = crowd.prepare(BYTES, &each)?;
    let shared = crowd.prepare(BYTES, &[To::Everyone])?;
    let stand = std::cell::RefCell::new(Stand { server, crowd });
    let slice = |frames| stand.borrow_mut().slice(rig, frames, count as u64);
    slice(&own)?;
    slice(&shared)?;
    let pairs = alternate(rig.effort.rounds, || slice(&own), || slice(&shared))?;
    let (name, against) = (
        format!("channels/{count}-of-one"),
        format!("one of {count}"),
    );
    rows_of(&[(&name, &against, UNIT, pairs)])
}
