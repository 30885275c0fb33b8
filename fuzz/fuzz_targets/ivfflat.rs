#![no_main]

mod pages;

use libfuzzer_sys::fuzz_target;
use pages::{Pages, options, shapes};
use ruvector_dag_healing_engine::vector_index::ivfflat;

fuzz_target!(|bytes: &[u8]| {
    let mut source = Pages::of(bytes);
    for options in options() {
        for shape in shapes() {
            let _ = ivfflat::inspect(&mut source, &shape, &options);
            let _ = ivfflat::check(&mut source, &shape, options.memory_limit, &mut |_| {});
            let _ = ivfflat::entries(&mut source, shape.value_type, &mut |_, _, _| {});
        }
    }
});
