use std::time::Duration;

use ruvector_dag_healing_engine::settings::{HealingConfig, MaintenanceWindow};

#[test]
fn a_window_is_read_and_written() {
    for text in ["22:00-05:00", "00:00-23:59", "09:30-10:00"] {
        let window: MaintenanceWindow = text.parse().unwrap();
        assert_eq!(window.to_string(), text);
    }
    assert_eq!("".parse(), Ok(MaintenanceWindow::Always));
    assert_eq!("  ".parse(), Ok(MaintenanceWindow::Always));
    assert_eq!(
        " 1:00 - 2:00 "
            .parse::<MaintenanceWindow>()
            .unwrap()
            .to_string(),
        "01:00-02:00"
    );
}

#[test]
fn what_is_no_window_is_refused() {
    for text in [
        "22",
        "22:00",
        "24:00-01:00",
        "10:60-11:00",
        "10:00-10:00",
        "a:b-c:d",
        "-",
        "1:00-",
        "+1:00-2:00",
        "001:00-2:00",
    ] {
        assert!(text.parse::<MaintenanceWindow>().is_err(), "{text}");
    }
}

#[test]
fn a_window_may_pass_midnight() {
    let night: MaintenanceWindow = "22:00-05:00".parse().unwrap();
    let inside = [22 * 60, 23 * 60 + 59, 0, 4 * 60 + 59];
    let outside = [5 * 60, 12 * 60, 21 * 60 + 59];
    assert!(inside.into_iter().all(|minute| night.contains(minute)));
    assert!(!outside.into_iter().any(|minute| night.contains(minute)));
    let day: MaintenanceWindow = "05:00-22:00".parse().unwrap();
    assert!(outside.into_iter().all(|minute| day.contains(minute)));
    assert!(!inside.into_iter().any(|minute| day.contains(minute)));
}

#[test]
fn the_grace_period_follows_the_interval_within_bounds() {
    let grace = |check_interval_ms, rollback_enabled| {
        HealingConfig {
            check_interval_ms,
            rollback_enabled,
            ..HealingConfig::default()
        }
        .grace_period()
    };
    assert_eq!(grace(300_000, true), Duration::from_secs(600));
    assert_eq!(grace(100, true), Duration::from_secs(10));
    assert_eq!(grace(86_400_000, true), Duration::from_secs(3_600));
    assert_eq!(grace(300_000, false), Duration::ZERO);
}
