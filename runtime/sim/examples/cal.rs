fn main() {
    let a: Vec<String> = std::env::args().collect();
    let m = tarsia_tile::Machine::load(a[1].as_ref()).unwrap();
    let c = tarsia_sim::calibrate::calibrate(&m).unwrap();
    print!("{}", tarsia_sim::calibrate::document(&m, &c));
}
