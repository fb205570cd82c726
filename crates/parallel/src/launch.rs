//! How a process learns its rank: the variables of torchrun, srun and mpirun.

use crate::error::ParallelError;
use crate::tcp::TcpRanks;
use std::time::Duration;

/// The port of rank 0 where no variable names one: torchrun's.
const PORT: u16 = 29_500;

/// Ranks as whoever started the processes numbered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Which process this is.
    pub rank: usize,
    /// How many there are.
    pub count: usize,
    /// Which of the processes on its machine it is.
    pub local_rank: usize,
    /// How many of them are on its machine, as far as the launcher says so.
    pub local_count: usize,
    /// The machine of rank 0, which ranks over TCP need.
    pub host: Option<String>,
    /// The port at which rank 0 listens.
    pub port: u16,
}

impl Launch {
    /// The place of this process, by variables: `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT` of torchrun; or those
    /// that srun or Open MPI's mpirun sets. `None` for a process that was started alone.
    ///
    /// # Errors
    /// If a number of a variable is none, or impossible.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Launch>, ParallelError> {
        let number = |name: &str| -> Result<Option<usize>, ParallelError> {
            let Some(text) = variable(name) else { return Ok(None) };
            let parsed = text.trim().parse().map(Some);
            parsed.map_err(|_| {
                ParallelError::Setting(format!("{name} = {text:?} is no whole number; correct it"))
            })
        };
        let families = [
            ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
            ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
        ];
        // In the script of a batch SLURM_PROCID is 0 although no step runs.
        let step = variable("SLURM_STEP_ID").is_some();
        let started = |family: &&[&str; 3]| {
            variable(family[1]).is_some()
                && variable(family[0]).is_some()
                && (!family[0].starts_with("SLURM") || step)
        };
        let Some([rank, count, local]) = families.iter().find(started) else { return Ok(None) };
        let (rank_of, count_of) = (number(rank)?.unwrap_or(0), number(count)?.unwrap_or(1));
        if count_of == 0 || rank_of >= count_of {
            let cause = format!("{rank} = {rank_of} has to be below {count} = {count_of}");
            return Err(ParallelError::Setting(cause));
        }
        let local_rank = number(local)?.unwrap_or(0);
        let local_counts = ["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"].map(number);
        let mut local_count = 1;
        for found in local_counts {
            local_count = found?.unwrap_or(local_count).max(1);
        }
        let first = || variable("SLURM_STEP_NODELIST").map(|list| first_host(&list));
        let together = || {
            let here = number("OMPI_COMM_WORLD_LOCAL_SIZE").ok().flatten();
            (here == Some(count_of) || count_of == 1).then(|| "127.0.0.1".to_owned())
        };
        let host = variable("MASTER_ADDR").or_else(first).or_else(together);
        let port = match (number("MASTER_PORT")?, number("SLURM_JOB_ID")?) {
            (Some(port), _) => port,
            // Steps of several jobs may share a machine.
            (None, Some(job)) => 20_000 + (job + number("SLURM_STEP_ID")?.unwrap_or(0)) % 10_000,
            (None, None) => PORT.into(),
        };
        // The agent of torchrun listens at that port itself and says so.
        let taken =
            variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let port = port.saturating_add(usize::from(taken));
        let port = u16::try_from(port).ok().filter(|&port| port > 0);
        let port = port.ok_or_else(|| {
            ParallelError::Setting("MASTER_PORT is no port; take one from 1 to 65535".into())
        })?;
        Ok(Some(Launch { rank: rank_of, count: count_of, local_rank, local_count, host, port }))
    }

    /// Connects the ranks over TCP.
    ///
    /// # Errors
    /// If nothing says where rank 0 is, and as [`TcpRanks::connect`].
    pub fn tcp(&self, timeout: Duration) -> Result<TcpRanks, ParallelError> {
        let host = self.host.as_ref().ok_or_else(|| {
            ParallelError::Setting(
                "there is no MASTER_ADDR; set it to the name of the machine of rank 0".into(),
            )
        })?;
        TcpRanks::connect([self.rank, self.count], host, self.port, timeout)
    }
}

/// The first machine of a list as Slurm writes it, such as `node[07-09,12],other`.
fn first_host(list: &str) -> String {
    let Some((prefix, rest)) = list.split_once('[').filter(|(prefix, _)| !prefix.contains(',')) else {
        return list.split(',').next().unwrap_or_default().to_owned();
    };
    let inside = rest.split(']').next().unwrap_or_default();
    let first = inside.split([',', '-']).next().unwrap_or_default();
    let after = rest.split_once(']').map_or("", |(_, after)| after.split(',').next().unwrap_or_default());
    format!("{prefix}{first}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>, String> {
        let find =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Launch::of(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_of_each_launcher_are_read() {
        assert_eq!(of(&[]), Ok(None));
        let torchrun = [
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node7"),
            ("MASTER_PORT", "4000"),
        ];
        let expected = Launch {
            rank: 3,
            count: 4,
            local_rank: 1,
            local_count: 1,
            host: Some("node7".into()),
            port: 4000,
        };
        assert_eq!(of(&torchrun), Ok(Some(expected.clone())));
        let agent = [&torchrun[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(of(&agent), Ok(Some(Launch { port: 4001, ..expected })));

        let srun = [
            ("SLURM_PROCID", "1"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_JOB_ID", "12345"),
            ("SLURM_STEP_NODELIST", "gpu[07-09,12]"),
        ];
        // The script of a batch is no rank.
        assert_eq!(of(&srun), Ok(None));
        let step = [&srun[..], &[("SLURM_STEP_ID", "2")]].concat();
        let expected = Launch {
            rank: 1,
            count: 2,
            local_rank: 0,
            local_count: 1,
            host: Some("gpu07".into()),
            port: 22_347,
        };
        assert_eq!(of(&step), Ok(Some(expected)));

        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        let expected = Launch {
            rank: 1,
            count: 2,
            local_rank: 1,
            local_count: 2,
            host: Some("127.0.0.1".into()),
            port: 29_500,
        };
        assert_eq!(of(&mpirun), Ok(Some(expected)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let both =
            |rank, count| of(&[("RANK", rank), ("WORLD_SIZE", count), ("MASTER_ADDR", "a")]).unwrap_err();
        assert!(both("two", "4").contains("RANK = \"two\""));
        assert!(both("4", "4").contains("RANK = 4 has to be below WORLD_SIZE = 4"));
        let nowhere = of(&[("RANK", "0"), ("WORLD_SIZE", "2")]).unwrap().unwrap();
        assert!(nowhere.tcp(Duration::from_secs(1)).err().unwrap().to_string().contains("no MASTER_ADDR"));
        let port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "70000")];
        assert!(of(&port).unwrap_err().contains("MASTER_PORT is no port"));
    }

    #[test]
    fn the_first_machine_of_a_list_is_found() {
        for (list, first) in [
            ("a", "a"),
            ("a,b", "a"),
            ("n[1-3]", "n1"),
            ("n[07,09],m", "n07"),
            ("b,n[1-2]", "b"),
            ("n[1-2].x,m", "n1.x"),
        ] {
            assert_eq!(first_host(list), first, "{list}");
        }
    }
}
