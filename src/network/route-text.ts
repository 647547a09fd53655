/** Routes as people write them in the configuration, as for ip(8): `10.0.0.0/8 via 192.168.1.1 metric 5`. Pure. */
import { type Family, type Prefix, parsePrefix } from './prefix.js';
import type { Route } from './routes.js';

/** Without the interface. */
export type PlainRoute = Omit<Route, 'ifindex'>;

export const ROUTE_RULE = 'a route, as "10.0.0.0/8 via 192.168.1.1 metric 5" or "default via fe80::1"';
export const METRIC_MAX = 0xffff_ffff;

/** Undefined for what is none, and where destination and gateway are of two families. */
export function parseRouteText(text: string): PlainRoute | undefined {
  const words = /^(\S+)(?: via (\S+))?(?: metric ([0-9]{1,10}))?$/.exec(text.trim().replace(/\s+/g, ' '));
  if (words === null) return undefined;
  const [, to = '', gateway, metric] = words;
  const via = gateway === undefined ? undefined : parseAddress(gateway);
  if ((gateway !== undefined && via === undefined) || Number(metric ?? 0) > METRIC_MAX) return undefined;
  const destination = to === 'default' ? via && anywhere(via.family) : parsePrefix(to);
  if (destination === undefined || (via !== undefined && via.family !== destination.family)) return undefined;
  return {
    destination,
    ...(via && { gateway: via.address }),
    ...(metric !== undefined && { metric: Number(metric) }),
  };
}

/** An address without a length. */
export function parseAddress(text: string): Prefix | undefined {
  return text.includes('/') ? undefined : parsePrefix(text);
}

/** The default route by this gateway. */
export function defaultRoute(gateway: string, metric: number | undefined): PlainRoute {
  const family = gateway.includes(':') ? 'ipv6' : 'ipv4';
  return { destination: anywhere(family), gateway, ...(metric !== undefined && { metric }) };
}

const anywhere = (family: Family): Prefix => ({ family, address: family === 'ipv4' ? '0.0.0.0' : '::', length: 0 });
