//! datetime.now().strftime(format), in the local time zone.

use std::ffi::CString;

pub fn strftime(format: &str, now_seconds: i64) -> Result<String, String> {
    let mut buffer = [0u8; 1024];
    if format.len() > buffer.len() {
        return Err("strftime_now: the format is too long".to_string());
    }
    let bad = |why: &str| format!("strftime_now({format:?}): {why}");
    // Python's own: parts of a second, and a zone, of which the time has none.
    let own = [("%f", "000000"), ("%z", ""), ("%Z", "")];
    let plain = |part: &str| {
        own.iter()
            .fold(part.to_string(), |part, (from, to)| part.replace(from, to))
    };
    let format = format.split("%%").map(plain).collect::<Vec<_>>().join("%%");
    // The sentinel tells an empty result from one that does not fit.
    let c_format = CString::new(format!("{format}.")).map_err(|_| bad("the format has a NUL"))?;
    let seconds: libc::time_t = now_seconds;
    // SAFETY: localtime_r fills `fields` or returns null; strftime writes at most buffer.len() bytes, NUL included.
    let length = unsafe {
        let mut fields: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut fields).is_null() {
            return Err(bad("the time is out of range"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), c_format.as_ptr(), &fields)
    };
    let text = length.checked_sub(1).and_then(|length| buffer.get(..length));
    let text = text.ok_or_else(|| bad("the result is too long"))?;
    String::from_utf8(text.to_vec()).map_err(|_| bad("the result is no UTF-8"))
}
