//! Channels with history, of which something did not come.

use super::*;

#[tokio::test]
async fn a_gap_delays_no_other_channel_and_is_filled_before_what_comes_after_it() {
    let mut stage = Stage::new().await;
    stage.keeps("kept:a").await;
    stage.keeps("kept:b").await;
    stage.top.store(5, Ordering::Relaxed);
    stage.kept("kept:a", 5).await;
    let read = stage.call("read kept:a after 3").await;
    stage.kept("kept:a", 6).await;
    stage.kept("kept:b", 4).await;
    let other = r#"0: deliver kept:b "4""#;
    assert_eq!(stage.told(other).await, [other]);
    read.answer.send(true).unwrap();
    let expected = [4, 5, 6].map(|offset| format!(r#"0: deliver kept:a "{offset}""#));
    assert_eq!(stage.told(&expected[2]).await, expected);
}

fn names(names: &[&str]) -> Vec<ChannelName> {
    names
        .iter()
        .map(|name| ChannelName::parse(name).unwrap())
        .collect()
}

#[tokio::test]
async fn the_logs_of_what_was_lost_are_read_until_that_succeeds_and_no_others() {
    let mut stage = Stage::new().await;
    for channel in ["kept:a", "kept:b", "kept:c"] {
        stage.keeps(channel).await;
    }
    stage.interest(0, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("0: live news 1").await;
    stage.top.store(4, Ordering::Relaxed);
    let lost = names(&["kept:a", "news", "kept:c", "gone"]);
    stage.events.send(Event::Lost(lost)).await.unwrap();
    // They come back one after the other.
    for (restored, read) in [
        (&["kept:c", "gone"], "kept:c"),
        (&["news", "kept:a"], "kept:a"),
    ] {
        let restored = Event::Restored(names(restored));
        stage.events.send(restored).await.unwrap();
        stage.answer(&format!("read {read} after 3"), false).await;
        stage.answer(&format!("read {read} after 3"), true).await;
        let missed = format!(r#"0: deliver {read} "4""#);
        assert_eq!(stage.told(&missed).await, [missed]);
    }
    assert!(
        stage.calls.try_recv().is_err(),
        "nothing was lost of kept:b"
    );
}

#[tokio::test]
async fn what_is_lost_before_it_is_known_where_the_log_stands_is_read() {
    let mut stage = Stage::new().await;
    let channel = ChannelName::parse("kept:a").unwrap();
    let wish = Wish::Interest {
        shard: ShardId(0),
        channel,
        round: 1,
    };
    stage.wishes.send(wish).await.unwrap();
    stage.answer("subscribe kept:a", true).await;
    let stands = stage.call("read kept:a after 0").await;
    for event in [Event::Lost, Event::Restored] {
        stage.events.send(event(names(&["kept:a"]))).await.unwrap();
    }
    // Both are taken when what comes after them is.
    stage.delivery("broadcast", "all", None).await;
    stage.told(r#"2: deliver broadcast "all""#).await;
    stands.answer.send(true).unwrap();
    stage.told("0: live kept:a 1").await;
    stage.top.store(4, Ordering::Relaxed);
    stage.answer("read kept:a after 3", true).await;
    let missed = r#"0: deliver kept:a "4""#;
    assert_eq!(stage.told(missed).await, [missed]);
}

#[tokio::test]
async fn a_channel_whose_log_cannot_be_read_is_not_live() {
    let mut stage = Stage::new().await;
    let channel = ChannelName::parse("kept:a").unwrap();
    let (shard, round) = (ShardId(0), 1);
    let wish = Wish::Interest {
        shard,
        channel,
        round,
    };
    stage.wishes.send(wish).await.unwrap();
    stage.answer("subscribe kept:a", true).await;
    stage.answer("read kept:a after 0", false).await;
    stage.answer("unsubscribe kept:a", true).await;
    let refused = "0: refused kept:a 1 Unavailable";
    assert_eq!(stage.told(refused).await, [refused]);
    stage.keeps("kept:a").await;
}
