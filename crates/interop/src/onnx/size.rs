//! Extents and whole numbers of shape arithmetic, as functions of the number of images.

/// `fixed + per_image·n`, where n is the number of images of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Size {
    fixed: i64,
    per_image: i64,
}

impl Size {
    /// The number of images itself.
    pub(crate) const BATCH: Size = Size { fixed: 0, per_image: 1 };
    pub(crate) const ONE: Size = Size { fixed: 1, per_image: 0 };

    pub(crate) fn of(fixed: i64) -> Self {
        Size { fixed, per_image: 0 }
    }

    /// The number, if it does not depend on the batch.
    pub(crate) fn known(self) -> Option<i64> {
        (self.per_image == 0).then_some(self.fixed)
    }

    /// An extent that does not depend on the batch.
    pub(crate) fn extent(self) -> Option<usize> {
        self.known().and_then(|known| usize::try_from(known).ok())
    }

    /// Of `n` images. It was checked when it was made that extents are not negative.
    pub(crate) fn at(self, n: usize) -> usize {
        let value = self.fixed.saturating_add(self.per_image.saturating_mul(n as i64));
        usize::try_from(value).unwrap_or(0)
    }

    /// The number for each image, if it is a multiple of the batch.
    pub(crate) fn per_image(self) -> Option<i64> {
        (self.fixed == 0 && self.per_image > 0).then_some(self.per_image)
    }

    pub(crate) fn add(self, other: Size) -> Option<Size> {
        Some(Size {
            fixed: self.fixed.checked_add(other.fixed)?,
            per_image: self.per_image.checked_add(other.per_image)?,
        })
    }

    pub(crate) fn sub(self, other: Size) -> Option<Size> {
        Some(Size {
            fixed: self.fixed.checked_sub(other.fixed)?,
            per_image: self.per_image.checked_sub(other.per_image)?,
        })
    }

    /// `None` where the product is not linear in the batch.
    pub(crate) fn mul(self, other: Size) -> Option<Size> {
        let (factor, size) = match (self.known(), other.known()) {
            (Some(known), _) => (known, other),
            (_, Some(known)) => (known, self),
            _ => return None,
        };
        Some(Size { fixed: size.fixed.checked_mul(factor)?, per_image: size.per_image.checked_mul(factor)? })
    }

    /// The quotient, cut towards zero; `None` where it is not linear in the batch.
    pub(crate) fn div(self, other: Size) -> Option<Size> {
        if let (Some(a), Some(b)) = (self.known(), other.known()) {
            return a.checked_div(b).map(Size::of);
        }
        if self == other {
            return Some(Size::ONE);
        }
        if let (Some(a), Some(b)) = (self.per_image(), other.per_image()) {
            return (a % b == 0).then(|| Size::of(a / b));
        }
        let by = other.known().filter(|by| *by != 0)?;
        let exact = |value: i64| (value.checked_rem(by)? == 0).then(|| value.checked_div(by))?;
        Some(Size { fixed: exact(self.fixed)?, per_image: exact(self.per_image)? })
    }

    pub(crate) fn rem(self, other: Size) -> Option<Size> {
        match (self.known(), other.known()) {
            (Some(a), Some(b)) => a.checked_rem(b).map(Size::of),
            _ => None,
        }
    }

    /// Whether both are equal; `None` where that depends on the batch.
    pub(crate) fn equal(self, other: Size) -> Option<bool> {
        if self == other {
            return Some(true);
        }
        match (self.known(), other.known()) {
            (Some(_), Some(_)) => Some(false),
            // A batch has at least one image, so its multiples are neither zero nor negative.
            (Some(known), None) if known < 1 && other.per_image().is_some() => Some(false),
            (None, Some(known)) if known < 1 && self.per_image().is_some() => Some(false),
            _ => None,
        }
    }

    pub(crate) fn product(sizes: &[Size]) -> Option<Size> {
        sizes.iter().try_fold(Size::ONE, |product, &size| product.mul(size))
    }
}

#[cfg(test)]
mod tests {
    use super::Size;
    use proptest::prelude::*;

    fn size() -> impl Strategy<Value = Size> {
        (-9i64..9, 0i64..4).prop_map(|(fixed, per_image)| Size { fixed, per_image })
    }

    fn value(size: Size, n: i64) -> i64 {
        size.fixed + size.per_image * n
    }

    proptest! {
        /// Whatever is linear in the batch is what the numbers are for any batch.
        #[test]
        fn arithmetic_is_that_of_the_numbers(a in size(), b in size(), n in 1i64..50) {
            let (x, y) = (value(a, n), value(b, n));
            let results = [(a.add(b), Some(x + y)), (a.sub(b), Some(x - y)), (a.mul(b), Some(x * y))];
            for (found, expected) in results.into_iter().chain([(a.div(b), x.checked_div(y)), (a.rem(b), x.checked_rem(y))]) {
                if let (Some(found), Some(expected)) = (found, expected) {
                    prop_assert_eq!(value(found, n), expected, "{:?} {:?}", a, b);
                }
            }
            if let Some(equal) = a.equal(b) {
                prop_assert_eq!(equal, x == y, "{:?} {:?}", a, b);
            }
        }
    }

    #[test]
    fn what_shape_arithmetic_needs_is_linear() {
        let batch = |k: i64| Size { fixed: 0, per_image: k };
        assert_eq!(batch(12).div(Size::of(3)), Some(batch(4)));
        assert_eq!(batch(12).div(batch(1)), Some(Size::of(12)));
        assert_eq!(batch(1).mul(batch(1)), None);
        assert_eq!(Size::product(&[batch(2), Size::of(8), Size::of(3)]), Some(batch(48)));
        assert_eq!(
            (batch(3).at(5), Size::BATCH.equal(Size::of(-1)), Size::BATCH.equal(Size::of(1))),
            (15, Some(false), None)
        );
    }
}
