//! A list that most often has one element, which then takes no memory of its own: that saves a piece of 16 bytes or
//! more and the pointer to it.

/// No more than a pointer and a word longer than its element.
#[derive(Debug, Default)]
pub enum Few<T> {
    #[default]
    None,
    One(T),
    /// More than one, once.
    More(Box<Vec<T>>),
}

impl<T> Few<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(one) => std::slice::from_ref(one),
            Few::More(more) => more,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Few::None => &mut [],
            Few::One(one) => std::slice::from_mut(one),
            Few::More(more) => more,
        }
    }

    pub fn push(&mut self, value: T) {
        *self = match std::mem::take(self) {
            Few::None => Few::One(value),
            Few::One(one) => Few::More(Box::new(vec![one, value])),
            Few::More(mut more) => {
                more.push(value);
                Few::More(more)
            }
        };
    }

    /// The last one takes its place.
    ///
    /// # Panics
    ///
    /// If there are no more than `index`, as a `Vec` does.
    pub fn swap_remove(&mut self, index: usize) -> T {
        match std::mem::take(self) {
            Few::One(one) if index == 0 => one,
            Few::More(mut more) => {
                let removed = more.swap_remove(index);
                if !more.is_empty() {
                    *self = Few::More(more);
                }
                removed
            }
            list => panic!("remove element {index} of {}", list.as_slice().len()),
        }
    }

    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let mut list = std::mem::take(self).into_vec();
        list.retain(keep);
        list.into_iter().for_each(|value| self.push(value));
    }

    pub fn into_vec(self) -> Vec<T> {
        match self {
            Few::None => Vec::new(),
            Few::One(one) => vec![one],
            Few::More(more) => *more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        for count in 0..4 {
            let mut few: Few<i32> = Few::default();
            (0..count).for_each(|value| few.push(value));
            let mut list: Vec<i32> = (0..count).collect();
            assert_eq!(few.as_slice(), list);
            for value in few.as_mut_slice() {
                *value += 10;
            }
            list.iter_mut().for_each(|value| *value += 10);
            few.retain(|value| *value != 11);
            list.retain(|value| *value != 11);
            assert_eq!(few.as_slice(), list);
            while !list.is_empty() {
                assert_eq!(few.swap_remove(0), list.swap_remove(0));
                assert_eq!(few.as_slice(), list);
            }
            assert!(few.into_vec().is_empty());
        }
    }

    #[test]
    fn one_element_takes_no_memory_of_its_own() {
        let mut few = Few::default();
        few.push((1_u32, 2_u32));
        assert!(matches!(few, Few::One(_)));
        assert!(size_of::<Few<(u32, u32)>>() <= 16);
        assert_eq!(few.into_vec(), [(1, 2)]);
    }
}
