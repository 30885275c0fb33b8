use ruvector_dag_healing_engine::repair::recovery::{
    Disposal, Recovery, Spare, Traces, decide, dispose,
};

#[test]
fn the_swap_decides_how_an_interrupted_repair_is_closed() {
    let traces = |ours, open, swapped| {
        decide(Traces {
            ours,
            open,
            swapped,
        })
    };
    assert_eq!(traces(true, true, false), Recovery::CloseFailed);
    assert_eq!(traces(true, true, true), Recovery::CloseSucceeded);
    assert_eq!(traces(true, false, true), Recovery::Nothing);
}

#[test]
fn another_servers_repairs_are_not_taken_up() {
    for open in [true, false] {
        for swapped in [true, false] {
            assert_eq!(
                decide(Traces {
                    ours: false,
                    open,
                    swapped
                }),
                Recovery::Abandon
            );
        }
    }
}

#[test]
fn only_what_is_provably_ours_and_overdue_is_removed() {
    let spare = |provably_ours, overdue| {
        dispose(Spare {
            provably_ours,
            overdue,
        })
    };
    assert_eq!(spare(true, true), Disposal::Drop);
    assert_eq!(spare(true, false), Disposal::Keep);
    assert_eq!(spare(false, true), Disposal::Forget);
    assert_eq!(spare(false, false), Disposal::Forget);
}
