//! What both sides say of a password without saying it.

use sha1::{Digest, Sha1};

/// Four hexadecimal digits that tell one password from the next. They are as few as that on purpose: of the guesses that
/// somebody tries who knows them, one in 65536 fits by chance, so they confirm none.
#[must_use]
pub fn password_print(password: &str) -> String {
    let digest = Sha1::digest(format!("pushcluster password\0{password}"));
    format!("{:02x}{:02x}", digest[0], digest[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_passwords_have_two_prints() {
        assert_eq!(password_print("old").len(), 4);
        assert_eq!(password_print("old"), password_print("old"));
        assert_ne!(password_print("old"), password_print("new"));
    }
}
