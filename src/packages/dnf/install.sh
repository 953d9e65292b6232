# Runs rpm and tells which processes its scriptlets left behind (run by nosa inside the sandbox, by the
# host's shell; the sandbox ends them). Arguments: rpm's.
rpm "$@"
code=$?
for dir in /proc/[0-9]*; do
    pid=${dir#/proc/}
    [ "$pid" = 1 ] || [ "$pid" = $$ ] && continue
    read -r name < "$dir/comm" 2> /dev/null && echo "nosa: left running: $pid $name"
done
exit "$code"
