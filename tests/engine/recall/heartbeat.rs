use ruvector_dag_healing_engine::recall::heartbeat::{Circumstances, Heartbeat, Restart};
use ruvector_dag_healing_engine::recall::interval::QueryHits;

use super::random::Random;

fn circumstances() -> Circumstances {
    Circumstances {
        storage: 16_400,
        search: "hnsw.ef_search=40".into(),
        k: 10,
        source: "captured".into(),
        target: 0.95,
    }
}

/// Queries of this recall until the alarm, at most `most`.
fn until_alarm(watch: &mut Heartbeat, random: &mut Random, recall: f64, most: u32) -> Option<u32> {
    (1..=most).find(|_| {
        watch.observe(&[random.query(recall, 0.2, 10)]);
        watch.is_alarmed()
    })
}

/// The queries that half the watches, and nine in ten, need to see this recall after `healthy` queries at
/// another one.
fn delay(recall: f64, healthy: (u32, f64)) -> (u32, u32) {
    let mut random = Random(11);
    let mut delays: Vec<u32> = (0..301)
        .map(|_| {
            let mut watch = Heartbeat::new(circumstances());
            until_alarm(&mut watch, &mut random, healthy.1, healthy.0);
            until_alarm(&mut watch, &mut random, recall, 20_000).unwrap_or(u32::MAX)
        })
        .collect();
    delays.sort_unstable();
    (delays[150], delays[270])
}

/// 5,000 queries a watch, at the target itself, where false alarms are most frequent.
#[test]
fn at_the_target_there_is_no_alarm() {
    let mut random = Random(3);
    let watches = 500;
    let alarms = (0..watches)
        .filter(|_| {
            let mut watch = Heartbeat::new(circumstances());
            until_alarm(&mut watch, &mut random, 0.95, 5_000).is_some()
        })
        .count();
    println!("{alarms} false alarms of {watches} watches of 5,000 queries at the target");
    assert!(alarms < 5, "{alarms}");
}

#[test]
fn a_lower_recall_is_seen_soon() {
    println!("recall: queries until the alarm, median and 90 %");
    for recall in [0.93, 0.92, 0.90, 0.85, 0.60] {
        let (median, most) = delay(recall, (0, 0.95));
        println!("{recall:.2}: {median} {most}");
        assert!(recall > 0.90 || median <= 100, "{recall}: {median}");
    }
}

#[test]
fn a_long_healthy_time_does_not_blunt_the_watch() {
    println!("healthy queries, then 0.90: queries until the alarm, median and 90 %");
    for healthy in [(2_000, 0.97), (2_000, 0.955)] {
        let (median, most) = delay(0.90, healthy);
        println!("{healthy:?}: {median} {most}");
        assert!(median <= 250, "{healthy:?}: {median}");
    }
}

#[test]
fn the_watch_goes_on_where_it_was_kept() {
    let mut random = Random(5);
    let mut whole = Heartbeat::new(circumstances());
    let mut kept = whole.clone();
    for _ in 0..10 {
        let batch: Vec<_> = (0..50).map(|_| random.query(0.93, 0.2, 10)).collect();
        whole.observe(&batch);
        kept.observe(&batch);
        let text = serde_json::to_string(&kept).expect("it is a plain value");
        let read = serde_json::from_str(&text).expect("it reads what it wrote");
        let (resumed, restart) = Heartbeat::resume(Some(read), circumstances());
        assert_eq!(restart, None);
        kept = resumed;
    }
    assert_eq!(kept.queries(), 500);
    assert!((kept.p_value() / whole.p_value() - 1.0).abs() < 1e-9);
}

#[test]
fn other_circumstances_begin_anew() {
    let mut watch = Heartbeat::new(circumstances());
    watch.observe(&[QueryHits { hits: 0, of: 10 }; 50]);
    assert!(watch.is_alarmed());
    let restarts = |change: &dyn Fn(&mut Circumstances)| {
        let mut now = circumstances();
        change(&mut now);
        let (fresh, restart) = Heartbeat::resume(Some(watch.clone()), now.clone());
        assert_eq!((fresh.queries() == 0, fresh.is_alarmed()), (true, false));
        assert_eq!(fresh.circumstances(), &now);
        restart
    };
    assert_eq!(restarts(&|now| now.storage += 1), Some(Restart::Rebuilt));
    assert_eq!(
        restarts(&|now| now.search = "hnsw.ef_search=80".into()),
        Some(Restart::SettingsChanged)
    );
    assert_eq!(restarts(&|now| now.k = 20), Some(Restart::QueriesChanged));
    assert_eq!(
        restarts(&|now| now.source = "sampled".into()),
        Some(Restart::QueriesChanged)
    );
    assert_eq!(
        restarts(&|now| now.target = 0.9),
        Some(Restart::TargetChanged)
    );
    let first = Heartbeat::resume(None, circumstances());
    assert_eq!(first.1, Some(Restart::First));
}

#[test]
fn nothing_to_measure_is_no_evidence() {
    let mut watch = Heartbeat::new(circumstances());
    watch.observe(&[QueryHits { hits: 0, of: 0 }; 500]);
    assert_eq!((watch.queries(), watch.recent_recall()), (0, None));
    assert_eq!(watch.p_value(), 1.0);
}

#[test]
fn extreme_targets_are_sane() {
    for (target, hits, alarmed) in [
        (1.0, 10, false),
        (1.0, 9, true),
        (0.0, 0, false),
        (f64::NAN, 0, false),
    ] {
        let mut watch = Heartbeat::new(Circumstances {
            target,
            ..circumstances()
        });
        watch.observe(&[QueryHits { hits, of: 10 }; 1_000]);
        assert_eq!(watch.is_alarmed(), alarmed, "{target} {hits}");
    }
}

#[test]
fn the_recent_recall_follows_the_index() {
    let mut watch = Heartbeat::new(circumstances());
    watch.observe(&[QueryHits { hits: 10, of: 10 }; 2_000]);
    watch.observe(&[QueryHits { hits: 5, of: 10 }; 700]);
    let recent = watch.recent_recall().expect("there were queries");
    assert!((recent - 0.5).abs() < 0.01, "{recent}");
}
