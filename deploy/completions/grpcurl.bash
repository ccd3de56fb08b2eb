# Completes the arguments of grpcurl in bash: its options, and the services and methods of the server. They are read by
# reflection, or from the files in `-protoset` and `-proto`, with the options for the connection that were typed before.
# Reflection takes one call per service and shell. Add to ~/.bashrc: source …/deploy/completions/grpcurl.bash

declare -gA _grpcurl_symbols

# Sets `symbols` to the services, or to the methods of a service as `service.method`. Empty if the server does not respond.
_grpcurl_list() { # ADDRESS SERVICE CONNECTION_OPTION…
    local address=$1 service=$2
    shift 2
    local key="$* $address $service"
    if [[ -z ${_grpcurl_symbols[$key]-} ]]; then
        _grpcurl_symbols[$key]=$(timeout 3 grpcurl -connect-timeout 2 "$@" ${address:+"$address"} list ${service:+"$service"} \
            2> /dev/null)
    fi
    symbols=${_grpcurl_symbols[$key]}
}

_grpcurl() {
    # The words of the line, because `COMP_WORDS` splits addresses at the colon.
    local -a words connection=()
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=('')
    local current=${words[-1]} address='' verb='' has_files='' index
    for ((index = 1; index < ${#words[@]} - 1; index++)); do
        case ${words[index]#-} in
        -plaintext | -insecure | -alts | plaintext | insecure | alts) connection+=("${words[index]}") ;;
        -cacert | -cert | -key | -authority | -servername | -protoset | -proto | -import-path | -reflect-header | \
            cacert | cert | key | authority | servername | protoset | proto | import-path | reflect-header)
            [[ ${words[index]} == *-proto* ]] && has_files=1
            connection+=("${words[index]}" "${words[++index]}")
            ;;
        list | describe) verb=${words[index]} ;;
        *) [[ -z $address && ${words[index]} =~ ^[][A-Za-z0-9._:-]+:[0-9]+$ ]] && address=${words[index]} ;;
        esac
    done

    local symbols
    compopt +o nospace
    if [[ $current == -* ]]; then
        local options
        options=$(grpcurl -help 2>&1 | sed -En 's/^  (-[a-z-]+).*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    elif [[ -z $address && -z $has_files ]]; then
        COMPREPLY=()
    elif [[ $current == */* || (-n $verb && $current =~ \.[A-Z][A-Za-z]*\.) ]]; then
        # Methods are called as `service/method`, and described as `service.method`.
        local service=${current%/*} separator=/
        [[ -n $verb ]] && service=${current%.*} separator=.
        _grpcurl_list "$address" "$service" "${connection[@]}"
        symbols=$(sed "s|^$service\.|$service$separator|" <<< "$symbols")
        mapfile -t COMPREPLY < <(compgen -W "$symbols" -- "$current")
    else
        _grpcurl_list "$address" '' "${connection[@]}"
        # Without a verb, the name of a method follows the service.
        [[ -z $verb && -n $symbols ]] && symbols=$(sed 's|$|/|' <<< "$symbols")
        [[ -z $verb ]] && symbols+=$'\nlist\ndescribe'
        mapfile -t COMPREPLY < <(compgen -W "$symbols" -- "$current")
        [[ ${COMPREPLY[0]-} == */ ]] && compopt -o nospace
    fi
}

complete -o default -F _grpcurl grpcurl
