# The Varnish that hits are compared with: in front of our edge, which says how long its answers stay fresh. Nothing is changed about
# what Varnish does by itself. The names in double braces are filled in when it is started.
vcl 4.1;

backend default {
    .host = "{{host}}";
    .port = "{{port}}";
}
