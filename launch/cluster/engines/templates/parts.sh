{# Shared by the shell scripts. #}
{% macro sbatch_header() %}
{% for option in ("partition", "account", "qos", "constraint", "mem") if slurm[option] %}
#SBATCH --{{ option }}={{ slurm[option] }}
{% endfor %}
{% for line in sbatch_lines %}
#SBATCH {{ line }}
{% endfor %}
{%- endmacro %}
{% macro gpus_header() %}
{% if slurm.gres %}
#SBATCH --gres={{ slurm.gres }}
{% elif gpus_per_node %}
#SBATCH --gpus-per-node={{ gpus_per_node }}
{% endif %}
{%- endmacro %}
{# What runs a command on a job's only node: in the container, if there is one. #}
{% macro step() %}
{% if srun_options %}srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" "${SRUN_OPTIONS[@]}" {% endif %}
{%- endmacro %}
{# What every step of Slurm gets. #}
{% macro srun_header() %}
SRUN_OPTIONS=({{ srun_options }})  # further options of srun
{%- endmacro %}
{% macro run_header() %}
CONFIG={{ config | sh }}  # the recipe
DATA={{ data | sh }}  # the prepared corpus: a folder that all nodes see, or a URL
OUTPUT={{ output | sh }}  # the run's folder, on storage that all nodes share
OPTIONS=({{ options }})  # further options of acn pretrain
MLFLOW={{ mlflow | default("", true) | sh }}  # tracking server, http://HOST:5000; empty: the recipe's
RANK_LOGS={{ rank_logs | default("", true) | sh }}  # shared folder for a log of every rank; empty: the job's log alone
LAUNCHER_OPTIONS=({{ launcher_options }})  # further options of the launcher
GPUS_PER_NODE={{ gpus_per_node }}  # 0: nodes without GPUs, one rank each
PREFLIGHT={{ "yes" if preflight else "no" }}  # check all nodes first, start nothing when there is a fault
{%- endmacro %}
{% macro setup_header() %}
setup() { {% if slurm.modules and engine == "slurm" %}module load {{ slurm.modules }} && {% endif %}{{ shell_setup }}; }  # makes `acn` and the recipe found
{%- endmacro %}
{% macro exports() %}
{% for variable in variables %}
export {{ variable.name }}={{ variable.value | sh }}  # {{ variable.why }}
{% endfor %}
{% for variable in to_try %}
# export {{ variable.name }}={{ variable.value | sh }}  # {{ variable.why }}
{% endfor %}
{%- endmacro %}
{% macro job_arguments() %}
arguments=(--config "$CONFIG" --data "$DATA" --output "$OUTPUT" ${MLFLOW:+--tracking.mlflow "$MLFLOW"} "${OPTIONS[@]}")
{%- endmacro %}
{# A log of every rank, besides the output; the first folder is the node's. #}
{% macro logs_of_ranks(node) %}
rank_logs=()
[ -n "$RANK_LOGS" ] && rank_logs=(--log-dir "$RANK_LOGS/{{ node }}" --tee 3)
{%- endmacro %}
{% macro threads(cores) %}
ranks=$((GPUS_PER_NODE > 0 ? GPUS_PER_NODE : 1))
export OMP_NUM_THREADS=$(({{ cores }} > ranks ? {{ cores }} / ranks : 1))  # a rank's share of the cores
{%- endmacro %}
{# Signals reach the ranks, which have the time to write a checkpoint. #}
{% set signals = "--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1" %}
