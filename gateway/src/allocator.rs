//! What jemalloc is told when a crowd has gone. `main.rs` makes it the allocator; where another one is, as in tests, it
//! has no effect.

use std::ffi::CStr;
use std::ptr;

/// Gives the kernel the pages that are kept for later. They are not used, but nobody else can have them, and the memory
/// guard would go on evicting clients for their sake.
pub fn give_back() {
    // 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
    tell(c"arena.4096.purge");
}

/// The pieces that this thread keeps for itself are free for all: each of them holds a page.
pub fn let_go() {
    tell(c"thread.tcache.flush");
}

/// Something that has no value.
fn tell(what: &CStr) {
    #[expect(
        unsafe_code,
        reason = "jemalloc's safe bindings have no call without a value"
    )]
    // SAFETY: mallctl is thread-safe, and null pointers say that no value goes in or out.
    let failure = unsafe {
        tikv_jemalloc_sys::mallctl(
            what.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    debug_assert_eq!(failure, 0, "{what:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jemalloc_knows_what_it_is_told() {
        // A name that it does not know is an error, which `tell` finds.
        give_back();
        let_go();
    }
}
