# Makes events of flights: what becomes known, when. Sort what comes out:
#
#   zcat flights.csv.gz | awk -f flight_events.awk -v month=1 | LC_ALL=C sort -t, -k1,1 -k2,2r -k3,3n | gzip -9n
#
# In: scheduled (local time of New York), carrier, flight, tail, origin, destination, distance_miles,
# departure_delay_min, arrival_delay_min, air_time_min; empty where not known, as of cancelled flights.
# Out: time, event, id, carrier, origin, destination, distance_miles, departure_delay_min, arrival_delay_min; a flight
# has two events: its departure, and its arrival, which alone says how late it arrived. Arrivals are taken to be known
# half an hour (taxiing) after departure and time in the air.

BEGIN {
    FS = OFS = ","
    split("31 28 31 30 31 30 31 31 30 31 30 31", days, " ")
}

# A time so many minutes after midnight of a day of 2013.
function at(month, day, minutes) {
    while (minutes < 0) {
        minutes += 1440
        if (--day == 0) {
            month = month == 1 ? 12 : month - 1
            day = days[month]
        }
    }
    for (; minutes >= 1440; minutes -= 1440)
        if (++day > days[month]) {
            day = 1
            month++
        }
    return sprintf("2013-%02d-%02dT%02d:%02d:00", month, day, minutes / 60, minutes % 60)
}

NR > 1 && substr($1, 6, 2) + 0 == month && $8 != "" {
    id = NR - 1
    day = substr($1, 9, 2) + 0
    minutes = substr($1, 12, 2) * 60 + substr($1, 15, 2) + $8
    print at(month, day, minutes), "departure", id, $2, $5, $6, $7, $8, ""
    if ($9 != "" && $10 != "")
        print at(month, day, minutes + $10 + 30), "arrival", id, "", "", "", "", "", $9
}
