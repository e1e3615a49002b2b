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

#[tokio::test]
async fn when_the_broker_is_back_every_log_is_read_until_that_succeeds() {
    let mut stage = Stage::new().await;
    stage.keeps("kept:a").await;
    stage.interest(0, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("0: live news 1").await;
    stage.top.store(4, Ordering::Relaxed);
    stage.events.send(Event::Lost).await.unwrap();
    stage.events.send(Event::Restored).await.unwrap();
    stage.answer("read kept:a after 3", false).await;
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
