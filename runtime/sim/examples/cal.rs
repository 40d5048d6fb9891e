fn main() {
    let a: Vec<String> = std::env::args().collect();
    let m = tarsia_tile::Machine::load(a[1].as_ref()).unwrap();
    tarsia_sim::calibrate::trial(&m, a.get(2).map_or("", |s| s));
}
