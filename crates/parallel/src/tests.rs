use super::*;
use std::time::Duration;
use tarrl_tensor::{Array, DType, Key, Random, Tensor, cpu, grad, grad_recorded};

const TIMEOUT: Duration = Duration::from_secs(60);

/// `f` on every shard of each group, in the order of groups and shards.
fn on_all<T: Send>(groups: &[std::sync::Arc<Group>], f: impl Fn(Shard) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let shards = groups.iter().flat_map(|group| group.shards());
        let threads: Vec<_> = shards.map(|shard| scope.spawn(|| f(shard))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Groups of `shards` shards on `ranks` ranks that are connected over TCP.
fn connected(shards: usize, ranks: usize) -> Vec<std::sync::Arc<Group>> {
    let port = free_port();
    std::thread::scope(|scope| {
        let group = |rank| {
            let ranks = TcpRanks::connect([rank, ranks], "127.0.0.1", port, TIMEOUT).unwrap();
            Group::new(shards, Box::new(ranks), SumOrder::Fixed).unwrap()
        };
        let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || group(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn draw(shard: usize, shape: [usize; 2], dtype: DType) -> Tensor {
    let keys: Vec<Key> = (0..shape[0]).map(|row| Key::new(7).fold(shard).fold(row)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &shape[1..], dtype)
}

#[test]
fn ranks_do_not_change_a_bit() {
    let results = [1, 2, 4].map(|ranks| {
        let all = on_all(&connected(4, ranks), |shard| {
            let mut values = draw(shard.index(), [3, 50], DType::F32).to_vec::<f32>();
            shard.sum(&mut values);
            let gathered = shard.gather(&[shard.index() as u8, 9]);
            assert!(shard.any(shard.index() == 3) && !shard.any(false));
            shard.check().unwrap();
            (values.into_iter().map(f32::to_bits).collect::<Vec<_>>(), gathered)
        });
        assert!(all.iter().all(|each| *each == all[0]), "{ranks} ranks");
        assert_eq!(all[0].1, [0, 9, 1, 9, 2, 9, 3, 9]);
        all.into_iter().next().unwrap()
    });
    assert!(results[0] == results[1] && results[0] == results[2]);
}

/// One loss over all shards: each has its own part `Σ wᵢ tanh(s)` of the sum `s`, and all have `Σ exp(gathered)/shards`… whose
/// derivatives in what a shard holds are compared with central differences of the loss itself, computed here on one thread.
#[test]
fn gradients_are_those_of_the_one_loss() {
    let (shards, shape) = (4, [2, 3]);
    let loss = |all: &[Vec<f64>]| -> f64 {
        let sum: Vec<f64> = (0..6).map(|i| all.iter().map(|x| x[i]).sum()).collect();
        let parts = (0..shards).map(|s| sum.iter().map(|v| (s as f64 + 1.0) * v.tanh()).sum::<f64>());
        // Rows of two parts: the first row of every shard, then the second of every shard.
        let rows: Vec<&[f64]> =
            (0..2).flat_map(|part| all.iter().map(move |x| &x[3 * part..][..3])).collect();
        let weighted = rows
            .iter()
            .enumerate()
            .map(|(i, row)| (i as f64 + 0.5) * row.iter().map(|v| v.exp()).sum::<f64>());
        parts.sum::<f64>() + weighted.sum::<f64>()
    };
    let values: Vec<Vec<f64>> = (0..shards).map(|s| draw(s, shape, DType::F64).to_vec()).collect();
    let found = on_all(&[Group::alone(shards).unwrap()], |shard| {
        let x = draw(shard.index(), shape, DType::F64).requires_grad();
        let own = all_sum(&x, &shard).tanh().sum_all().mul_scalar(shard.index() as f64 + 1.0);
        let rows = all_gather(&x, 2, &shard);
        let weights: Vec<f64> = (0..8).map(|i| i as f64 + 0.5).collect();
        let weights: Tensor = Array::new(x.device(), [8, 1], &weights).into();
        let shared = (&rows.exp() * &weights).sum_all();
        grad(&(&own + &shared), &[&x])[0].to_vec::<f64>()
    });
    for (shard, gradient) in found.iter().enumerate() {
        for (i, g) in gradient.iter().enumerate() {
            let at = |h: f64| {
                let mut moved = values.clone();
                moved[shard][i] += h;
                loss(&moved)
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            // Of a step of 1e-5 the error is 1e-10 times a third derivative below 100, and a rounding of 1e-10.
            assert!((g - difference).abs() < 1e-7, "shard {shard}, element {i}: {g} and {difference}");
        }
    }
}

/// Second derivatives go through the sum twice: of `Σ s⁴` over one value of each shard they are `12 s²`, for each part.
#[test]
fn the_sum_is_differentiated_twice() {
    let found = on_all(&[Group::alone(2).unwrap()], |shard| {
        let x = Tensor::new(&cpu(), [1], &[shard.index() as f64 + 1.0]).requires_grad();
        // Both shards hold half of the loss s⁴.
        let part = all_sum(&x, &shard).powf(4.0).sum_all().mul_scalar(0.5);
        let first = grad_recorded(&part, &[&x]).remove(0);
        // The loss of the second derivative is the gradient of shard 0 alone: a sum over shards with one part.
        let part = first.sum_all().mul_scalar(if shard.is_first() { 1.0 } else { 0.0 });
        (first.item(), grad(&part, &[&x])[0].item())
    });
    for (first, second) in found {
        assert_eq!((first, second), (4.0 * 27.0, 12.0 * 9.0));
    }
}

#[test]
fn shards_that_disagree_all_end_with_the_same_message() {
    for ranks in [1, 2] {
        let groups = connected(2, ranks);
        let found = on_all(&groups, |shard| {
            let same = shard.agree("images", &[1; 32]);
            let other = shard.agree("settings", &[shard.index() as u8; 32]);
            // From here on nobody waits for anybody.
            assert_eq!(shard.gather(&[5]), [0, 0]);
            (same, other.map_err(|error| error.to_string()))
        });
        for (same, other) in found {
            assert_eq!(same, Ok(()));
            assert!(other.unwrap_err().contains("has other settings than rank 0"));
        }
    }
}

#[test]
fn a_rank_that_ends_takes_the_others_with_it_and_says_why() {
    let groups = connected(4, 4);
    let found = on_all(&groups, |shard| {
        if shard.index() == 2 {
            let full = ParallelError::Ended { rank: 2, message: "the disk is full".into(), again: false };
            shard.group().end(full);
        }
        shard.gather(&[0]);
        shard.check().unwrap_err()
    });
    for (rank, error) in found.iter().enumerate() {
        assert!(error.to_string().contains("the disk is full") && !error.is_passing(), "{rank}: {error}");
        assert_eq!(error.is_told_by(rank), rank == 0);
    }
}

#[test]
fn a_rank_that_dies_or_hangs_is_lost() {
    for hangs in [false, true] {
        let port = free_port();
        let short = Duration::from_secs(2);
        let errors = std::thread::scope(|scope| {
            let rank = |rank: usize| {
                let mut ranks = TcpRanks::connect([rank, 3], "127.0.0.1", port, short).unwrap();
                let first = ranks.gather(&[rank as u8]);
                assert_eq!(first.unwrap(), [0, 1, 2]);
                if rank == 1 {
                    if hangs {
                        std::thread::sleep(2 * short);
                    }
                    return None;
                }
                let error = ranks.gather(&[0]).unwrap_err();
                ranks.end(&error);
                Some(error)
            };
            let threads: Vec<_> = (0..3).map(|r| scope.spawn(move || rank(r))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let told = errors[0].clone().unwrap();
        assert!(matches!(&told, ParallelError::Lost { rank: 1, .. }) && told.is_passing(), "{told}");
        assert_eq!(told.to_string().contains("has sent nothing"), hangs, "{told}");
        let second = errors[2].clone().unwrap();
        assert!(second.to_string().contains("rank 1 was lost") && second.is_passing(), "{second}");
    }
}

#[test]
fn the_other_ranks_are_watched_without_waiting() {
    let port = free_port();
    let rank = |rank: usize| TcpRanks::connect([rank, 3], "127.0.0.1", port, TIMEOUT).unwrap();
    let [mut zero, mut one, two] = std::thread::scope(|scope| {
        [0, 1, 2].map(|r| scope.spawn(move || rank(r))).map(|thread| thread.join().unwrap())
    });
    assert_eq!((zero.look(), one.look()), (Ok(()), Ok(())));
    let seen = |ranks: &mut TcpRanks| {
        let began = std::time::Instant::now();
        loop {
            match ranks.look() {
                Ok(()) if began.elapsed() < TIMEOUT => std::thread::yield_now(),
                found => return found.unwrap_err(),
            }
        }
    };
    drop(two);
    let lost = seen(&mut zero);
    assert!(matches!(&lost, ParallelError::Lost { rank: 2, cause } if cause.contains("has ended")), "{lost}");
    zero.end(&lost);
    let told = seen(&mut one);
    assert!(told.is_passing() && told.to_string().contains("rank 2 was lost"), "{told}");
}

#[test]
fn what_no_ranks_can_do_is_refused() {
    let refused = |shards| Group::alone(shards).unwrap_err().to_string();
    assert!(refused(3).contains("powers of two") && refused(0).contains("powers of two"));
    let port = free_port();
    let none = TcpRanks::connect([0, 2], "127.0.0.1", port, Duration::from_millis(50)).unwrap_err();
    assert!(none.to_string().contains("rank 1 of 2 has not called"), "{none}");
    let none = TcpRanks::connect([1, 2], "127.0.0.1", port, Duration::from_millis(50)).unwrap_err();
    assert!(none.to_string().contains("does not reach rank 0"), "{none}");
}
