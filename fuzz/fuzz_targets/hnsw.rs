#![no_main]

mod pages;

use libfuzzer_sys::fuzz_target;
use pages::{Pages, options, shapes};
use ruvector_dag_healing_engine::vector_index::hnsw;

fuzz_target!(|bytes: &[u8]| {
    let mut source = Pages::of(bytes);
    for options in options() {
        let report = hnsw::inspect(&mut source, &options);
        for shape in shapes() {
            if let Ok(report) = &report {
                let (m, kind) = (report.figures.m, shape.value_type);
                let (missed, reached) = (&report.unreachable, &report.reached);
                let _ = hnsw::origin(&mut source, kind, m, missed, reached);
                let _ = hnsw::duplicate_sink(&mut source, kind, &report.frequent);
            }
            let _ = hnsw::check(&mut source, &shape, options.memory_limit, &mut |_| {});
            let _ = hnsw::entries(&mut source, shape.value_type, &mut |_, _, _| {});
        }
    }
});
