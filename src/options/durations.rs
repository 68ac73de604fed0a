//! Times as text, in the two forms of the sources that options are read from: ISO 8601
//! (`PT1M30S`, Java) and Go's (`1m30s`, the `nats` tool). Pure; nothing negative is read.

use std::time::Duration;

/// Reads an ISO 8601 duration of days, hours, minutes and seconds, as Java does: `PT0.5S`.
pub(super) fn iso8601(text: &str) -> Option<Duration> {
    let upper = text.to_ascii_uppercase();
    let body = upper.strip_prefix('P')?;
    let (days, time) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (body, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    // Each unit once, from large to small, and a fraction of seconds only.
    let units: String = time.chars().filter(char::is_ascii_alphabetic).collect();
    let ordered = matches!(units.as_str(), "" | "H" | "M" | "S" | "HM" | "HS" | "MS" | "HMS");
    let whole = time.rfind(['H', 'M']).and_then(|end| time.get(..end)).unwrap_or_default();
    if !ordered || whole.contains('.') || days.contains('.') || days.matches('D').count() > 1 {
        return None;
    }
    let time = amounts(time, &[("H", HOUR), ("M", MINUTE), ("S", SECOND)])?;
    amounts(days, &[("D", DAY)])?.checked_add(time)
}

/// Reads a duration as Go writes it: `1h30m`, `2.5s`, `300ms`; a bare zero needs no unit.
pub(super) fn go(text: &str) -> Option<Duration> {
    match text {
        "" => None,
        "0" => Some(Duration::ZERO),
        _ => {
            let units = [
                ("h", HOUR),
                ("m", MINUTE),
                ("s", SECOND),
                ("ms", 1_000_000),
                ("us", 1_000),
                ("µs", 1_000),
                ("μs", 1_000),
                ("ns", 1),
            ];
            amounts(text, &units)
        }
    }
}

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The sum of amounts, each a number with a unit behind it. Nothing at all is zero.
fn amounts(text: &str, units: &[(&str, u64)]) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, nanos) = units.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(amount(number, *nanos)?)?;
        rest = behind;
    }
    Some(sum)
}

/// A decimal number of units; what is less than a nanosecond is cut off.
fn amount(number: &str, unit: u64) -> Option<Duration> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(u128::from(unit))?;
    let mut place = u128::from(unit);
    for digit in part.chars() {
        // Digits beyond a nanosecond count nothing, but they must be digits.
        place /= 10;
        nanos = nanos.checked_add(place.checked_mul(u128::from(digit.to_digit(10)?))?)?;
    }
    let seconds = u64::try_from(nanos / u128::from(SECOND)).ok()?;
    let below = u32::try_from(nanos % u128::from(SECOND)).ok()?;
    Some(Duration::new(seconds, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_8601_is_read_as_java_reads_it() {
        let millis = Duration::from_millis;
        for (text, expected) in [
            ("PT2S", millis(2_000)),
            ("pt0.25s", millis(250)),
            ("PT1M30S", millis(90_000)),
            ("PT1H", millis(3_600_000)),
            ("P1D", millis(86_400_000)),
            ("P1DT1S", millis(86_401_000)),
            ("PT0S", Duration::ZERO),
            ("PT0.000000001S", Duration::from_nanos(1)),
        ] {
            assert_eq!(iso8601(text), Some(expected), "{text}");
        }
        for bad in ["", "P", "PT", "2S", "PT2", "PTS", "PT-2S", "-PT2S", "P1Y", "PT2X", "P1DT"] {
            assert_eq!(iso8601(bad), None, "{bad}");
        }
        for bad in ["PT1.2.3S", "PT1S1M", "PT1S1S", "PT1.5M", "P1.5D", "P1D1D", "PT1.5H1S"] {
            assert_eq!(iso8601(bad), None, "{bad}");
        }
        assert_eq!(iso8601(&format!("PT{}S", "9".repeat(40))), None);
    }

    #[test]
    fn a_duration_of_go_is_read_with_all_its_units() {
        for (text, expected) in [
            ("5s", Duration::from_secs(5)),
            ("1m30s", Duration::from_secs(90)),
            ("1.5h", Duration::from_secs(5_400)),
            ("300ms", Duration::from_millis(300)),
            (".5s", Duration::from_millis(500)),
            ("1s500ms", Duration::from_millis(1_500)),
            ("7us", Duration::from_micros(7)),
            ("7µs", Duration::from_micros(7)),
            ("7ns", Duration::from_nanos(7)),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(go(text), Some(expected), "{text}");
        }
        for bad in ["", "5", "s", "-5s", "5 s", "5x", "5s5", ".s", "1e3s", "PT5S"] {
            assert_eq!(go(bad), None, "{bad}");
        }
    }
}
