//! Threat models: the norm, the radius ε and the box of the inputs an attacker may choose.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the size of a perturbation is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// The largest change of any coordinate.
    #[default]
    Linf,
    /// The Euclidean length of the change.
    L2,
    /// The sum of the changes of all coordinates.
    L1,
    /// The number of coordinates that change: sparse perturbations, of any size within the box.
    L0,
}

impl Norm {
    /// All of them.
    pub const ALL: [Norm; 4] = [Norm::Linf, Norm::L2, Norm::L1, Norm::L0];

    /// The length of a displacement, its sums taken from the first coordinate to the last.
    pub fn length(self, displacement: impl IntoIterator<Item = f64>) -> f64 {
        let sizes = displacement.into_iter().map(f64::abs);
        match self {
            Norm::Linf => sizes.fold(0.0, f64::max),
            Norm::L2 => sizes.map(|v| v * v).sum::<f64>().sqrt(),
            Norm::L1 => sizes.sum(),
            Norm::L0 => sizes.filter(|&v| v > 0.0).count() as f64,
        }
    }

    /// The norm in which gradients are measured: `max_{‖δ‖ ≤ 1} g·δ` is the dual norm of `g`.
    /// `None` for l0, which is no norm.
    pub fn dual(self) -> Option<Norm> {
        match self {
            Norm::Linf => Some(Norm::L1),
            Norm::L2 => Some(Norm::L2),
            Norm::L1 => Some(Norm::Linf),
            Norm::L0 => None,
        }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Norm::Linf => "linf",
            Norm::L2 => "l2",
            Norm::L1 => "l1",
            Norm::L0 => "l0",
        })
    }
}

/// A text that names none of the norms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a norm; write linf, l2, l1 or l0")]
pub struct UnknownNorm(pub String);

/// Reads `linf`, `l2`, `l1` or `l0`, in any case.
impl FromStr for Norm {
    type Err = UnknownNorm;

    fn from_str(text: &str) -> Result<Self, UnknownNorm> {
        let lower = text.to_ascii_lowercase();
        let named = Norm::ALL.into_iter().find(|norm| norm.to_string() == lower);
        named.ok_or_else(|| UnknownNorm(text.to_owned()))
    }
}

/// A radius that means no ball of pixels in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RadiusError {
    /// A number of values that is not whole.
    #[error("in l0 a radius is a whole number of values, but this is {0}")]
    NotWhole(f64),
    /// An l-infinity ball that holds every image.
    #[error(
        "an linf ball of radius {0} holds every image, whose pixels lie in [0, 1]; for {0} of 255 levels write {0}/255"
    )]
    EveryImage(f64),
}

impl Norm {
    /// Whether `epsilon` is the radius of a ball of pixels in `[0, 1]`: at most 1 in l-infinity, whole in l0.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_pixel_radius(self, epsilon: f64) -> Result<(), RadiusError> {
        match self {
            Norm::Linf if epsilon > 1.0 => Err(RadiusError::EveryImage(epsilon)),
            Norm::L0 if epsilon.fract() != 0.0 => Err(RadiusError::NotWhole(epsilon)),
            _ => Ok(()),
        }
    }
}

/// A threat model: all points within ε of the input, cut with a box.
///
/// In files: `{ norm = "linf", epsilon = "8/255" }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Threat {
    /// The norm of the ball.
    pub norm: Norm,
    /// ε: its radius, finite and not negative; in the units of the input (pixels in `[0, 1]`), for l0 a
    /// number of coordinates, rounded down.
    #[serde(with = "crate::fraction")]
    pub epsilon: f64,
    /// The least and largest value of any coordinate; `None` if inputs have no range.
    pub bounds: Option<(f64, f64)>,
    /// How many equally spaced values of the box the attacker can write, 256 for images of 8 bits;
    /// `None` for all. See [`Ball::snap`](crate::Ball::snap). Levels are rounded numbers: for an l-infinity ball of eight levels
    /// write `8.001/255`, or the eighth is out of reach for some of them by its last bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
}

/// The l-infinity ball of radius 8/255 in the pixel box `[0, 1]`, any value.
impl Default for Threat {
    fn default() -> Self {
        Threat { norm: Norm::Linf, epsilon: 8.0 / 255.0, bounds: Some((0.0, 1.0)), levels: None }
    }
}

impl Threat {
    /// The ball of radius `epsilon` in the pixel box `[0, 1]`.
    pub fn new(norm: Norm, epsilon: f64) -> Self {
        Threat { norm, epsilon, ..Threat::default() }
    }

    /// The l-infinity ball of radius `epsilon` in the pixel box `[0, 1]`.
    pub fn linf(epsilon: f64) -> Self {
        Threat::new(Norm::Linf, epsilon)
    }

    /// The Euclidean ball of radius `epsilon` in the pixel box `[0, 1]`.
    pub fn l2(epsilon: f64) -> Self {
        Threat::new(Norm::L2, epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radius_in_levels_and_a_part_of_a_value_are_refused() {
        assert_eq!(Norm::Linf.check_pixel_radius(1.0), Ok(()));
        let levels = Norm::Linf.check_pixel_radius(8.0).unwrap_err().to_string();
        assert!(levels.contains("write 8/255"), "{levels}");
        assert_eq!(Norm::L0.check_pixel_radius(2.5), Err(RadiusError::NotWhole(2.5)));
        assert_eq!([Norm::L0, Norm::L2, Norm::L1].map(|norm| norm.check_pixel_radius(8.0)), [Ok(()); 3]);
    }

    #[test]
    fn files_name_it() {
        let read = |text: &str| toml::from_str::<Threat>(text).map_err(|e| e.to_string());
        assert_eq!(read("norm = 'l2'\nepsilon = 0.5"), Ok(Threat::l2(0.5)));
        assert_eq!(read("norm = 'l0'\nepsilon = 7"), Ok(Threat::new(Norm::L0, 7.0)));
        assert_eq!(read("epsilon = '8/255'"), Ok(Threat::default()));
        assert_eq!(read("levels = 256").unwrap().levels, Some(256));
        assert_eq!(read("bounds = [-1.0, 1.0]").unwrap().bounds, Some((-1.0, 1.0)));
        assert!(read("eps = 0.1").unwrap_err().contains("eps"));
        assert!(!toml::to_string(&Threat::default()).unwrap().contains("levels"));
    }

    #[test]
    fn norms_are_named_and_measured() {
        let v = [3.0, 0.0, -4.0];
        for (norm, name, length) in
            [(Norm::Linf, "Linf", 4.0), (Norm::L2, "L2", 5.0), (Norm::L1, "l1", 7.0), (Norm::L0, "l0", 2.0)]
        {
            assert_eq!(name.parse(), Ok(norm));
            assert_eq!(norm.length(v), length);
            assert!(norm.dual().is_none_or(|dual| dual.dual() == Some(norm)));
        }
        assert!("l3".parse::<Norm>().unwrap_err().to_string().contains("linf"));
    }
}
