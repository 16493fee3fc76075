#!/bin/sh
# schedule: run the jobs of the crontab for ever; once: run the report now; anything else is a command.
case $1 in
schedule) exec crond -f -l 8 ;;
once) exec report.sh ;;
*) exec "$@" ;;
esac
