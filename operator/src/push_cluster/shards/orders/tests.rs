use super::super::{Health, health, nodes::View};
use super::*;
use crate::push_cluster::shards::nodes::{Node, Way};

/// A Cluster, a line for each node or pod:
/// `0-1 b <a` pod 1 of shard 0 with node b, which follows a; `0-0 a 0-5460` with these slots; `0-0 a alone` knows nobody;
/// `0-0 a ending` is being removed, `0-0 a old` is to be another; `0-1 silent` does not answer; `gone x 0-5460` is no pod's, and still known to all
/// (`@0-1`: at that pod's address; `@nowhere`: without one).
/// `+5` takes slot 5 in, `-5` sends it out.
/// All who are not alone know each other.
fn pods(text: &str) -> Vec<Pod> {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<&str>| !words.is_empty())
        .collect();
    let has = |words: &[&str], word| words.contains(&word);
    let node = |words: &[&str]| {
        let range = |word: &&str| {
            let (first, last) = word.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Node {
            id: words[1].into(),
            address: match words.iter().find_map(|word| word.strip_prefix('@')) {
                Some("nowhere") => None,
                Some(pod) => Some(address(pod)),
                None => Some(address(words[0])),
            },
            replica_of: words
                .iter()
                .find_map(|word| Some(word.strip_prefix('<')?.into())),
            epoch: 1,
            slots: words[2..].iter().filter_map(range).collect(),
        }
    };
    let open = |word: &&str| {
        let coming = word.strip_prefix('+').map(|slot| (slot, Way::In));
        let (slot, way) = coming.or(word.strip_prefix('-').map(|slot| (slot, Way::Out)))?;
        Some((slot.parse().ok()?, way))
    };
    let answering = |words: &&Vec<&str>| !has(words, "silent") && !has(words, "absent");
    let known: Vec<Node> = lines
        .iter()
        .filter(|words| answering(words) && !has(words, "alone"))
        .map(|words| node(words))
        .collect();
    let pod = |words: &Vec<&str>| Pod {
        name: words[0].into(),
        shard: words[0][..1].parse().unwrap(),
        ending: has(words, "ending"),
        outdated: has(words, "old"),
        redis: match words[1] {
            "absent" => Redis::Absent,
            "silent" => Redis::Silent {
                address: address(words[0]),
                why: "it hangs".into(),
            },
            id => Redis::Answers {
                address: address(words[0]),
                view: View {
                    id: id.into(),
                    nodes: if has(words, "alone") {
                        vec![node(words)]
                    } else {
                        known.clone()
                    },
                    open: words.iter().filter_map(open).collect(),
                },
                offset: if has(words, "ahead") { 9 } else { 5 },
                in_step: words.iter().any(|word| word.starts_with('<')),
            },
        },
    };
    let mut pods: Vec<Pod> = lines
        .iter()
        .filter(|words| words[0] != "gone")
        .map(pod)
        .collect();
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    pods
}

/// Who is gone was where nobody is now, if nothing else is said.
fn address(pod: &str) -> String {
    match pod {
        "gone" => "10.9.9.9".into(),
        pod => format!("10.0.{}", pod.replace('-', ".")),
    }
}

/// Each order in a few words, with three shards.
fn said(text: &str) -> Vec<String> {
    said_with(text, 3)
}

fn said_with(text: &str, shards: usize) -> Vec<String> {
    let short = |order: Order| {
        let Order { pod, act } = order;
        match act {
            Act::TakeOver => format!("{pod} takes over"),
            Act::Forget { id } => format!("{pod} forgets {id}"),
            Act::Meet {
                pod: other,
                address,
            } => format!("{pod} meets {other} at {address}"),
            Act::Claim { ranges } => format!("{pod} claims {ranges:?}"),
            Act::Follow { id, .. } => format!("{pod} follows {id}"),
            Act::Succeed => format!("{pod} succeeds"),
            Act::Yield => format!("{pod} yields"),
            Act::Take { from, slots } => {
                let ranges = in_ranges(&slots);
                format!(
                    "{pod} takes {ranges:?} from {} at {}",
                    from.id, from.address
                )
            }
            Act::Keep { slot } => format!("{pod} keeps {slot}"),
            Act::Replace => format!("{pod} is replaced"),
        }
    };
    orders(&pods(text), shards, 1)
        .into_iter()
        .map(short)
        .collect()
}

const WHOLE: &str = "
    0-0 a 0-5460
    0-1 b <a
    1-0 c 5461-10921
    1-1 d <c
    2-0 e 10922-16383
    2-1 f <e";

fn with(changes: &[(&str, &str)]) -> String {
    let mut text = WHOLE.to_owned();
    for (line, other) in changes {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, other);
    }
    text
}

#[test]
fn a_cluster_is_made_step_by_step() {
    for (what, text, expected) in [
        (
            "nobody knows anybody",
            "0-0 a alone\n 0-1 b alone\n 1-0 c alone",
            &["0-0 meets 0-1 at 10.0.0.1", "0-0 meets 1-0 at 10.0.1.0"] as &[&str],
        ),
        (
            "all know each other",
            "0-0 a\n 0-1 b\n 1-0 c\n 1-1 d\n 2-0 e\n 2-1 f",
            &[
                "0-0 claims [(0, 5460)]",
                "1-0 claims [(5461, 10921)]",
                "2-0 claims [(10922, 16383)]",
            ],
        ),
        (
            "a pod that has not begun holds nothing",
            "0-0 absent\n 0-1 b\n 1-0 c\n 1-1 d",
            &["0-1 claims [(0, 5460)]", "1-0 claims [(5461, 10921)]"],
        ),
        (
            "one that does not answer might",
            "0-0 silent\n 0-1 b\n 1-0 c\n 1-1 d",
            &[],
        ),
        (
            "the masters have their slots",
            "0-0 a 0-5460\n 0-1 b\n 1-0 c 5461-10921\n 1-1 d\n 2-0 e 10922-16383\n 2-1 f",
            &["0-1 follows a", "1-1 follows c", "2-1 follows e"],
        ),
        ("whole", WHOLE, &[]),
        (
            "half of a shard's slots are nobody's",
            &with(&[("0-5460", "0-99")]),
            &["0-0 claims [(100, 5460)]"],
        ),
    ] {
        assert_eq!(said(text), expected, "{what}");
    }
}

#[test]
fn a_lost_pod_is_replaced_and_never_given_what_another_may_hold() {
    for (what, text, expected) in [
        (
            "the others elect",
            with(&[("0-0 a 0-5460", "0-0 absent\n gone a 0-5460")]),
            &[] as &[&str],
        ),
        (
            "its pod is back, empty, before they have: it waits",
            with(&[("0-0 a 0-5460", "0-0 x alone\n gone a 0-5460")]),
            &["1-0 meets 0-0 at 10.0.0.0"],
        ),
        (
            "they have elected",
            with(&[
                ("0-0 a 0-5460", "0-0 x\n gone a"),
                ("0-1 b <a", "0-1 b 0-5460"),
                ("    2-1 f <e", "2-1 f <e"),
            ]),
            &[
                "0-0 forgets a",
                "0-1 forgets a",
                "1-0 forgets a",
                "1-1 forgets a",
                "2-0 forgets a",
                "2-1 forgets a",
                "0-0 follows b",
            ],
        ),
        (
            "masters that hang are not gone, nor is what only they may have free",
            with(&[
                ("0-0 a 0-5460", "0-0 silent\n gone a 0-99 @0-0"),
                ("1-0 c", "1-0 silent\n gone c @1-0"),
            ]),
            &[],
        ),
        (
            "another answers where it was: it is gone",
            with(&[
                ("0-0 a 0-5460", "0-0 x\n gone a 0-5460 @0-0"),
                ("0-1 b <a", "0-1 b"),
                ("2-0 e 10922-16383\n    2-1 f <e", "2-0 e 10922-16383"),
                ("1-0 c 5461-10921\n    1-1 d <c", "1-0 c 5461-10921"),
            ]),
            &[
                "0-0 forgets a",
                "0-1 forgets a",
                "1-0 forgets a",
                "2-0 forgets a",
            ],
        ),
        (
            "a pod that ends gets no part any more",
            with(&[("1-1 d <c", "1-1 d ending")]),
            &[],
        ),
        (
            "one that follows another shard's master comes home",
            with(&[("1-1 d <c", "1-1 d <a")]),
            &["1-1 follows c"],
        ),
    ] {
        assert_eq!(said(&text), expected, "{what}");
    }
}

#[test]
fn with_half_of_the_masters_gone_the_replica_that_has_most_takes_over() {
    for (what, text, expected) in [
        (
            "one of three: two elect",
            with(&[("0-0 a", "0-0 absent\n gone a")]),
            &[] as &[&str],
        ),
        (
            "one of three, where another answered: nobody misses it",
            with(&[("0-0 a 0-5460", "0-0 x\n gone a 0-5460 @nowhere")]),
            &["0-1 takes over"],
        ),
        (
            "two of three",
            with(&[
                ("0-0 a", "0-0 absent\n gone a"),
                ("1-0 c", "1-0 absent\n gone c"),
            ]),
            &["0-1 takes over", "1-1 takes over"],
        ),
        (
            "two of three, of which one may only hang",
            with(&[
                ("0-0 a", "0-0 absent\n gone a"),
                ("1-0 c", "1-0 silent\n gone c @1-0 "),
            ]),
            &[],
        ),
        (
            "whoever has more, and stays",
            with(&[
                ("0-0 a", "0-0 absent\n gone a"),
                (
                    "0-1 b <a",
                    "0-1 b <a\n 0-2 g <a ahead\n 0-3 h <a ahead ending",
                ),
                ("1-0 c", "1-0 absent\n gone c"),
                ("1-1 d <c", "1-1 absent"),
            ]),
            &[
                "0-2 takes over",
                "0-1 forgets c",
                "0-2 forgets c",
                "0-3 forgets c",
                "2-0 forgets c",
                "2-1 forgets c",
            ],
        ),
    ] {
        assert_eq!(said(&text), expected, "{what}");
    }
}

#[test]
fn slots_move_once_and_what_has_begun_is_ended_first() {
    let four = format!("{WHOLE}\n 3-0 g\n 3-1 h");
    let moving = four
        .replace("0-0 a 0-5460", "0-0 a 0-5460 -4096")
        .replace("3-0 g", "3-0 g +4096");
    for (what, text, shards, expected) in [
        (
            "a fourth shard takes what the last has too many",
            four.as_str(),
            4,
            &["3-0 takes [(15018, 16383)] from e at 10.0.2.0"] as &[&str],
        ),
        (
            "and then of the others",
            &four
                .replace("10922-16383", "10922-15017")
                .replace("3-0 g", "3-0 g 15018-16383")
                .replace("3-1 h", "3-1 h <g"),
            4,
            &["3-0 takes [(9557, 10921)] from c at 10.0.1.0"],
        ),
        ("its pods are not there yet", WHOLE, 4, &[]),
        (
            "one slot is on its way",
            &moving,
            4,
            &["3-0 takes [(4096, 4096)] from a at 10.0.0.0"],
        ),
        (
            "it is ended also if there are to be three again",
            &moving,
            3,
            &["3-0 takes [(4096, 4096)] from a at 10.0.0.0"],
        ),
        (
            "who was to take it is gone",
            &with(&[("0-0 a 0-5460", "0-0 a 0-5460 -4096")]),
            3,
            &["0-0 keeps 4096"],
        ),
        (
            "it has arrived, and only who sent it does not know",
            &with(&[
                ("0-0 a 0-5460", "0-0 a 0-5459 -5460"),
                ("1-0 c 5461-10921", "1-0 c 5460-10921"),
                ("2-0 e", "2-0 e"),
            ]),
            3,
            &["0-0 takes [(10921, 10921)] from c at 10.0.1.0"],
        ),
    ] {
        assert_eq!(said_with(text, shards), expected, "{what}");
    }
}

#[test]
fn a_shard_that_is_to_go_gives_its_slots_first() {
    for (what, text, shards, expected) in [
        (
            "a fourth shard is to go",
            &with(&[
                ("1-1 d <c", "1-1 d <c\n 3-0 g 0-99\n 3-1 h <g"),
                ("0-5460", "100-5460"),
            ]),
            3,
            &["0-0 takes [(0, 99)] from g at 10.0.3.0"] as &[&str],
        ),
        (
            "not while one of them is silent",
            &with(&[
                ("1-1 d <c", "1-1 d <c\n 3-0 g 0-99\n 3-1 h <g\n"),
                ("0-5460", "100-5460"),
                ("2-0 e", "2-0 silent\n gone e @2-0"),
            ]),
            3,
            &[],
        ),
    ] {
        assert_eq!(said_with(text, shards), expected, "{what}");
    }
}

#[test]
fn pods_are_replaced_one_at_a_time_and_masters_when_they_have_a_successor() {
    let old = |pods: &[&str]| {
        let changes: Vec<(String, String)> = pods
            .iter()
            .map(|pod| ((*pod).to_owned(), format!("{pod} old")))
            .collect();
        let changes = changes.iter();
        with(
            &changes
                .map(|(from, to)| (from.as_str(), to.as_str()))
                .collect::<Vec<_>>(),
        )
    };
    let all = [
        "0-0 a 0-5460",
        "0-1 b <a",
        "1-0 c 5461-10921",
        "1-1 d <c",
        "2-0 e 10922-16383",
        "2-1 f <e",
    ];
    let and = |text: String, from: &str, to: &str| text.replace(from, to);
    for (what, text, expected) in [
        (
            "a replica first",
            old(&all),
            &["0-1 is replaced"] as &[&str],
        ),
        (
            "it has gone, its successor has no part yet",
            and(old(&all), "0-1 b <a old", "0-1 x"),
            &["0-1 follows a"],
        ),
        (
            "and follows, and has not everything",
            and(old(&all), "0-1 b <a old", "0-1 absent"),
            &[],
        ),
        (
            "only masters are left",
            old(&[all[2], all[4]]),
            &["1-1 succeeds"],
        ),
        (
            "one is ending",
            and(old(&all), "2-1 f <e old", "2-1 f <e old ending"),
            &[],
        ),
        (
            "one is silent",
            and(old(&all), "2-1 f <e old", "2-1 silent"),
            &[],
        ),
        (
            "one that never ran, while another is missing",
            and(
                and(old(&all), "2-1 f <e old", "2-1 absent"),
                "1-1 d <c old",
                "1-1 absent old",
            ),
            &["1-1 is replaced"],
        ),
    ] {
        assert_eq!(said(&text), expected, "{what}");
    }
}

#[test]
fn health_names_who_serves_which_shard() {
    let healths = |text: &str| health(&pods(text), 3);
    let of = |master: Option<&str>, replicas, unserved| Health {
        master: master.map(Into::into),
        replicas,
        unserved,
    };
    let second = of(Some("1-0"), 1, 0);
    let third = of(Some("2-0"), 1, 0);
    for (what, text, first) in [
        ("whole", WHOLE.to_owned(), of(Some("0-0"), 1, 0)),
        (
            "without its master",
            with(&[("0-0 a", "0-0 absent\n gone a")]),
            of(None, 0, 5_461),
        ),
        (
            "without its replica",
            with(&[("0-1 b <a", "0-1 absent")]),
            of(Some("0-0"), 0, 0),
        ),
    ] {
        let expected = vec![first, second.clone(), third.clone()];
        assert_eq!(healths(&text), Some(expected), "{what}");
    }
    assert_eq!(healths("0-0 silent\n 1-0 silent"), None);
    assert_eq!(
        healths("0-0 absent"),
        Some(vec![
            of(None, 0, 5_461),
            of(None, 0, 5_461),
            of(None, 0, 5_462)
        ])
    );
}
