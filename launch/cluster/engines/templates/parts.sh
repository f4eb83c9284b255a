{# Shared by the shell scripts. #}
{% macro run_header() %}
CONFIG={{ config | sh }}  # the recipe
DATA={{ data | sh }}  # the prepared corpus: a folder that all nodes see, or a URL
OUTPUT={{ output | sh }}  # the run's folder, on storage that all nodes share
OPTIONS=({{ options }})  # further options of acn pretrain
GPUS_PER_NODE={{ gpus_per_node }}  # 0: nodes without GPUs, one rank each
PREFLIGHT={{ "yes" if preflight else "no" }}  # check all nodes first, start nothing when there is a fault
{%- endmacro %}
{% macro setup_header() %}
setup() { {{ shell_setup }}; }  # makes `acn` and the recipe found
{%- endmacro %}
{% macro exports() %}
{% for variable in variables %}
export {{ variable.name }}={{ variable.value | sh }}  # {{ variable.why }}
{% endfor %}
{%- endmacro %}
{% macro threads(cores) %}
ranks=$((GPUS_PER_NODE > 0 ? GPUS_PER_NODE : 1))
export OMP_NUM_THREADS=$(({{ cores }} > ranks ? {{ cores }} / ranks : 1))  # a rank's share of the cores
{%- endmacro %}
{# Signals reach the ranks, which have the time to write a checkpoint. #}
{% set signals = "--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1" %}
