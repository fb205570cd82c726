//! Threat models and adversarial attacks: closures in, perturbed inputs out.
