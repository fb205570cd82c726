//! A method with the attack radius of a profile: a radius belongs to the data as much as to the method.

use super::Method;
use super::error::MethodError;
use tarrl_attacks::Norm;
use tarrl_bound::{InnerConfig, InnerKind, Regularizer, RegularizerConfig};

impl Method {
    /// The method with every attack and every ball of it, certified ones included, at radius `epsilon` of the l∞ ball, and
    /// with `steps` steps of each PGD or APGD if they are given. A step length that the file spells out grows and shrinks
    /// with the radius; one that follows from radius and steps does so by itself.
    ///
    /// # Errors
    /// If an attack has another norm, in which the radius would mean something else, or the result makes no sense.
    pub fn against(&self, epsilon: f64, steps: Option<usize>) -> Result<Method, MethodError> {
        let mut method = self.clone();
        let change = |place: &'static str, attack: &mut InnerConfig| {
            if attack.norm != Norm::Linf {
                return Err(MethodError::OtherNorm { place });
            }
            // A radius of 0 leaves no ratio; without steps of a length of its own the attack stays where it is.
            let ratio = if attack.epsilon > 0.0 { epsilon / attack.epsilon } else { 0.0 };
            attack.step_size = attack.step_size.map(|size| size * ratio);
            attack.epsilon = epsilon;
            if matches!(attack.kind, InnerKind::Pgd | InnerKind::Apgd) {
                attack.steps = steps.or(attack.steps);
            }
            Ok(())
        };
        if let Some(adversary) = &mut method.adversary {
            change("adversary.attack", &mut adversary.attack)?;
        }
        if let Some(distillation) = &mut method.distillation {
            change("distillation.attack", &mut distillation.attack)?;
        }
        if let Some(labels) = &mut method.pseudo_labels {
            change("pseudo_labels.attack", &mut labels.attack)?;
        }
        if let Some(regularizer) =
            method.regularizer.as_ref().filter(|regularizer| !regularizer.shares_attack())
        {
            let mut config: RegularizerConfig = regularizer.config().clone();
            change("regularizer.inner", &mut config.inner)?;
            method.regularizer = Some(Regularizer::new(config)?);
        }
        if let Some(certified) = &mut method.certified {
            certified.epsilon = epsilon;
        }
        method.check()?;
        Ok(method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn named(name: &str) -> Method {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods"));
        Method::read(&folder.join(format!("{name}.toml"))).unwrap()
    }

    /// Every number that could be a radius, wherever it stands.
    fn radii(value: &serde_json::Value, found: &mut Vec<f64>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_f64() {
                Some(radius) if key == "epsilon" => found.push(radius),
                _ => radii(value, found),
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|item| radii(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_radius_of_every_method_file_is_changed() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods"));
        let (mut methods, mut seen) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let method = Method::read(&entry.unwrap().path()).unwrap();
            let changed = method.against(8.0 / 255.0, Some(7)).unwrap();
            let mut found = Vec::new();
            radii(&serde_json::to_value(&changed).unwrap(), &mut found);
            assert!(found.iter().all(|&radius| radius == 8.0 / 255.0), "{}: {found:?}", method.title);
            methods += 1;
            seen += found.len();
        }
        assert!(methods > 20 && seen > 15, "{seen} radii in {methods} methods");
    }

    #[test]
    fn steps_and_their_length_follow_the_radius() {
        let tarr = named("tarr-simclr").against(0.05, None).unwrap();
        let inner = &tarr.regularizer.as_ref().unwrap().config().inner;
        assert_eq!((inner.steps(), inner.step()), (3, 2.5 * 0.05 / 3.0));
        let tarr = named("tarr-simclr").against(0.05, Some(5)).unwrap();
        let inner = &tarr.regularizer.as_ref().unwrap().config().inner;
        assert_eq!((inner.steps(), inner.step()), (5, 2.5 * 0.05 / 5.0));

        let mut spelled = named("acl");
        spelled.adversary.as_mut().unwrap().attack.step_size = Some(0.04);
        let changed = spelled.against(0.05, None).unwrap();
        assert_eq!(changed.adversary.unwrap().attack.step_size, Some(0.02));
    }

    #[test]
    fn a_method_without_any_attack_stays_as_it_is() {
        assert_eq!(named("simclr").against(0.05, Some(9)).unwrap(), named("simclr"));
    }

    #[test]
    fn another_norm_is_refused_with_its_place() {
        let mut method = named("acl");
        method.adversary.as_mut().unwrap().attack.norm = Norm::L2;
        let error = method.against(0.05, None).unwrap_err().to_string();
        assert!(error.starts_with("adversary.attack has another norm"), "{error}");
        assert!(named("acl").against(0.05, Some(0)).unwrap_err().to_string().contains("steps is 0"));
    }
}
